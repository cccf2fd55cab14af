#include "service/text/code_stops.h"

namespace phi::service {
namespace {

constexpr size_t kTabColumns = 8;

bool IsBlank(char byte) {
  return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\v' || byte == '\f';
}

size_t IndentAfter(size_t indent, char blank) {
  if (blank == ' ') return indent + 1;
  if (blank == '\t') return (indent / kTabColumns + 1) * kTabColumns;
  return indent;
}

}  // namespace

CodeStopMatcher::CodeStopMatcher(const std::vector<StopCondition>& conditions,
                                 std::string_view prompt) {
  for (const StopCondition condition : conditions)
    wanted_ |= 1U << static_cast<unsigned>(condition);
  if (wanted_ != 0) ReadPrompt(prompt);
}

bool CodeStopMatcher::Wants(StopCondition condition) const {
  return (wanted_ >> static_cast<unsigned>(condition) & 1U) != 0;
}

void CodeStopMatcher::ReadPrompt(std::string_view prompt) {
  for (const char byte : prompt) {
    if (byte == '\n') {
      EndLine();
    } else if (!IsBlank(byte)) {
      line_.blank = false;
      line_.of_prompt = true;
      line_.last_non_blank = byte;
    } else if (line_.blank) {
      line_.indent = IndentAfter(line_.indent, byte);
    }
  }
}

void CodeStopMatcher::EndLine() {
  if (line_.of_prompt) {
    reference_indent_ = line_.indent;
    next_line_is_reference_ = line_.last_non_blank == ':';
  }
  line_ = {.begin = position_};
}

std::optional<CodeStopMatcher::Match> CodeStopMatcher::Append(char byte) {
  ++position_;
  if (wanted_ == 0) return std::nullopt;
  if (byte == '\n') return AppendNewline();
  if (IsBlank(byte)) {
    if (line_.blank) line_.indent = IndentAfter(line_.indent, byte);
    return std::nullopt;
  }
  line_.last_non_blank = byte;
  return line_.blank ? AppendFirstNonBlank() : std::nullopt;
}

std::optional<CodeStopMatcher::Match> CodeStopMatcher::AppendNewline() {
  const Line ended = line_;
  EndLine();
  const size_t newline = position_ - 1;
  // A blank line that holds white space begins before its newline.
  const bool blank_first = ended.begin < newline || !Wants(StopCondition::kLineEnd);
  if (ended.blank && blank_first && Wants(StopCondition::kBlankLine)) {
    return Match{.condition = StopCondition::kBlankLine,
                 .span = {.begin = ended.begin, .end = position_}};
  }
  if (!Wants(StopCondition::kLineEnd)) return std::nullopt;
  return Match{.condition = StopCondition::kLineEnd, .span = {.begin = newline, .end = position_}};
}

std::optional<CodeStopMatcher::Match> CodeStopMatcher::AppendFirstNonBlank() {
  line_.blank = false;
  const TextSpan span{.begin = line_.begin, .end = position_ - 1};
  const bool is_reference = next_line_is_reference_;
  if (is_reference) {
    reference_indent_ = line_.indent;
    next_line_is_reference_ = false;
  }
  const bool dedented =
      !is_reference && reference_indent_.has_value() && line_.indent < *reference_indent_;
  if (dedented && Wants(StopCondition::kDedent)) {
    return Match{.condition = StopCondition::kDedent, .span = span};
  }
  if (line_.indent == 0 && Wants(StopCondition::kTopLevel)) {
    return Match{.condition = StopCondition::kTopLevel, .span = span};
  }
  return std::nullopt;
}

size_t CodeStopMatcher::held_bytes() const {
  if (!line_.blank) return 0;
  const bool may_dedent = Wants(StopCondition::kDedent) && !next_line_is_reference_ &&
                          reference_indent_.has_value() && line_.indent < *reference_indent_;
  const bool may_be_top_level = Wants(StopCondition::kTopLevel) && line_.indent == 0;
  const bool may_match = may_dedent || may_be_top_level || Wants(StopCondition::kBlankLine);
  return may_match ? position_ - line_.begin : 0;
}

}  // namespace phi::service
