#include "tests/unit/text/stop_reference.h"

#include <algorithm>
#include <tuple>
#include <vector>

namespace phi::service {
namespace {

constexpr std::string_view kBlanks = " \t\r\v\f";

// A line of prompt and text together.
struct Line {
  std::string_view content;  // without its '\n'
  size_t begin = 0;          // in prompt and text
  bool is_whole = false;     // its '\n' is there

  bool IsBlank() const { return content.find_first_not_of(kBlanks) == std::string_view::npos; }
  size_t FirstNonBlank() const { return begin + content.find_first_not_of(kBlanks); }
  bool EndsInColon() const { return content[content.find_last_not_of(kBlanks)] == ':'; }

  // Columns before the first non-blank character, tabs to multiples of 8.
  size_t Indent() const {
    size_t columns = 0;
    for (const char byte : content.substr(0, content.find_first_not_of(kBlanks))) {
      if (byte == ' ') ++columns;
      if (byte == '\t') columns += 8 - columns % 8;
    }
    return columns;
  }
};

std::vector<Line> SplitLines(std::string_view whole) {
  std::vector<Line> lines;
  for (size_t begin = 0; begin <= whole.size();) {
    const size_t newline = whole.find('\n', begin);
    const bool is_whole = newline != std::string_view::npos;
    const size_t end = is_whole ? newline : whole.size();
    lines.push_back({whole.substr(begin, end - begin), begin, is_whole});
    begin = end + 1;
  }
  return lines;
}

// The lines of a text behind its prompt, and what is said of each.
class CodeLines {
 public:
  CodeLines(std::string_view prompt, std::string_view whole)
      : prompt_size_(prompt.size()), lines_(SplitLines(whole)) {
    for (size_t i = 0; i < lines_.size(); ++i) {
      if (!lines_[i].IsBlank() && lines_[i].FirstNonBlank() < prompt_size_) last_of_prompt_ = i;
    }
    if (!last_of_prompt_) return;
    compared_with_ = *last_of_prompt_;
    if (!lines_[*compared_with_].EndsInColon()) return;
    do ++*compared_with_;
    while (*compared_with_ < lines_.size() && lines_[*compared_with_].IsBlank());
  }

  std::vector<ReferenceStop> Stops(StopCondition condition) const {
    std::vector<ReferenceStop> stops;
    for (size_t i = 0; i < lines_.size(); ++i) {
      const Line& line = lines_[i];
      const size_t end = line.begin + line.content.size();
      if (condition == StopCondition::kLineEnd || condition == StopCondition::kBlankLine) {
        if (!line.is_whole || end < prompt_size_) continue;
        if (condition == StopCondition::kLineEnd) {
          Add(stops, end + 1, end, end + 1, condition);
        } else if (line.IsBlank()) {
          Add(stops, end + 1, line.begin, end + 1, condition);
        }
      } else if (!line.IsBlank() && line.FirstNonBlank() >= prompt_size_ &&
                 (condition == StopCondition::kDedent ? IsDedented(i) : line.Indent() == 0)) {
        Add(stops, line.FirstNonBlank() + 1, line.begin, line.FirstNonBlank(), condition);
      }
    }
    return stops;
  }

 private:
  bool IsDedented(size_t i) const {
    return compared_with_ && i > *compared_with_ &&
           lines_[i].Indent() < lines_[*compared_with_].Indent();
  }

  // Positions in prompt and text become those in the text, which nothing reaches out of.
  void Add(std::vector<ReferenceStop>& stops,
           size_t complete,
           size_t begin,
           size_t end,
           StopCondition condition) const {
    begin = std::max(begin, prompt_size_);
    stops.push_back({.complete = complete - prompt_size_,
                     .span = {.begin = begin - prompt_size_, .end = end - prompt_size_},
                     .stop = condition});
  }

  const size_t prompt_size_;
  const std::vector<Line> lines_;
  std::optional<size_t> last_of_prompt_;  // the prompt's last non-blank line
  std::optional<size_t> compared_with_;   // what a dedented line is dedented from
};

std::vector<ReferenceStop> AllStops(std::string_view prompt,
                                    std::string_view text,
                                    const StopRules& rules) {
  std::vector<ReferenceStop> stops;
  for (const std::string& stop : rules.strings) {
    for (size_t at = text.find(stop); at != std::string_view::npos; at = text.find(stop, at + 1)) {
      const TextSpan span{.begin = at, .end = at + stop.size()};
      stops.push_back({.complete = span.end, .span = span, .stop = stop});
    }
  }
  const std::string whole = std::string(prompt) + std::string(text);
  const CodeLines lines(prompt, whole);
  for (const StopCondition condition : rules.conditions) {
    for (ReferenceStop& stop : lines.Stops(condition)) stops.push_back(std::move(stop));
  }
  return stops;
}

}  // namespace

std::optional<ReferenceStop> FirstStop(std::string_view prompt,
                                       std::string_view text,
                                       const StopRules& rules,
                                       const std::function<bool(size_t complete)>& counts) {
  std::vector<ReferenceStop> stops = AllStops(prompt, text, rules);
  std::erase_if(stops, [&](const ReferenceStop& stop) { return !counts(stop.complete); });
  const auto order = [](const ReferenceStop& stop) {
    return std::tuple(
        stop.complete, stop.span.begin, stop.stop);  // a string sorts before a condition
  };
  const auto first =
      std::min_element(stops.begin(), stops.end(), [&](const auto& a, const auto& b) {
        return order(a) < order(b);
      });
  return first == stops.end() ? std::nullopt : std::optional(*first);
}

size_t HeldBytes(std::string_view prompt, std::string_view text, const StopRules& rules) {
  size_t begin = text.size();
  const auto look_at = [&](const std::string& more, const StopRules& with) {
    for (const ReferenceStop& stop : AllStops(prompt, std::string(text) + more, with)) {
      if (stop.complete > text.size()) begin = std::min(begin, stop.span.begin);
    }
  };
  // Of a condition the next character that is no blank decides: a newline or another one.
  look_at("\n", {.conditions = rules.conditions});
  look_at("x", {.conditions = rules.conditions});
  for (const std::string& stop : rules.strings) {
    for (size_t n = 1; n < stop.size(); ++n) look_at(stop.substr(n), {.strings = {stop}});
  }
  return text.size() - begin;
}

}  // namespace phi::service
