#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "tools/phictl/bench/workload.h"

namespace phi::phictl {
namespace {

// The line's three numbers, whichever form it has.
struct Numbers {
  double offset = -1;
  double prompt_tokens = 0;
  double output_tokens = 0;
};

std::optional<Numbers> ReadCsv(absl::string_view line) {
  const std::vector<absl::string_view> cells = absl::StrSplit(line, ',');
  Numbers numbers;
  if (cells.size() != 3 || !absl::SimpleAtod(cells[0], &numbers.offset) ||
      !absl::SimpleAtod(cells[1], &numbers.prompt_tokens) ||
      !absl::SimpleAtod(cells[2], &numbers.output_tokens)) {
    return {};
  }
  return numbers;
}

std::optional<Numbers> ReadJson(absl::string_view line) {
  const auto object = nlohmann::json::parse(line.begin(), line.end(), nullptr, false);
  if (!object.is_object()) return {};
  const auto number = [&object](const char* name) {
    const auto found = object.find(name);
    return found != object.end() && found->is_number() ? found->get<double>() : -1.0;
  };
  return Numbers{number("offset"), number("prompt_tokens"), number("output_tokens")};
}

bool IsCount(double value) { return value >= 1 && value <= 1 << 20 && value == std::floor(value); }

}  // namespace

absl::StatusOr<std::vector<TraceEntry>> ParseTrace(std::string_view text) {
  std::vector<TraceEntry> entries;
  size_t line_number = 0;
  bool may_be_names = true;
  for (absl::string_view line : absl::StrSplit(absl::string_view(text.data(), text.size()), '\n')) {
    ++line_number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || line.front() == '#') continue;
    const bool is_json = line.front() == '{';
    const std::optional<Numbers> numbers = is_json ? ReadJson(line) : ReadCsv(line);
    const bool is_first = std::exchange(may_be_names, false);
    if (!numbers.has_value() && is_first && absl::ascii_isalpha(static_cast<uint8_t>(line.front())))
      continue;
    const double earliest = entries.empty() ? 0 : absl::ToDoubleSeconds(entries.back().offset);
    if (!numbers.has_value() || !IsCount(numbers->prompt_tokens) ||
        !IsCount(numbers->output_tokens) || !(numbers->offset >= earliest) ||
        numbers->offset > 1e7) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "line %d: not seconds (not falling), prompt tokens and output tokens", line_number));
    }
    entries.push_back({.offset = absl::Seconds(numbers->offset),
                       .prompt_tokens = static_cast<uint32_t>(numbers->prompt_tokens),
                       .output_tokens = static_cast<uint32_t>(numbers->output_tokens)});
  }
  if (entries.empty()) return absl::InvalidArgumentError("no request in it");
  return entries;
}

}  // namespace phi::phictl
