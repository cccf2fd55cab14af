#include "service/text/code_stops.h"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gtest/gtest.h"

namespace phi::service {
namespace {

using enum StopCondition;

struct Cut {
  std::string text;  // up to the match; all if there is none
  std::optional<StopCondition> condition;

  bool operator==(const Cut&) const = default;
};

void PrintTo(const Cut& cut, std::ostream* out) {
  *out << '"' << cut.text << "\" by " << (cut.condition ? static_cast<int>(*cut.condition) : 0);
}

// Also checks that what was not held back was never taken away again.
Cut CutAt(const std::vector<StopCondition>& conditions,
          std::string_view prompt,
          std::string_view text) {
  CodeStopMatcher matcher(conditions, prompt);
  size_t released = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (const auto match = matcher.Append(text[i])) {
      EXPECT_GE(match->span.begin, released);
      EXPECT_LE(match->span.begin, match->span.end);
      EXPECT_LE(match->span.end, i + 1);
      return {std::string(text.substr(0, match->span.begin)), match->condition};
    }
    EXPECT_LE(matcher.held_bytes(), i + 1 - released);
    released = i + 1 - matcher.held_bytes();
  }
  return {std::string(text), std::nullopt};
}

TEST(CodeStops, LineEndIsTheFirstNewline) {
  EXPECT_EQ(CutAt({kLineEnd}, "x =", " 1\ny"), (Cut{" 1", kLineEnd}));
  EXPECT_EQ(CutAt({kLineEnd}, "x =", " 1"), (Cut{" 1", std::nullopt}));
  EXPECT_EQ(CutAt({kLineEnd}, "f:\n", "\n"), (Cut{"", kLineEnd}));
}

TEST(CodeStops, BlankLineEndsBeforeTheLine) {
  EXPECT_EQ(CutAt({kBlankLine}, "def f():\n", "  a\n\nb"), (Cut{"  a\n", kBlankLine}));
  EXPECT_EQ(CutAt({kBlankLine}, "def f():\n", "  a\n \t \nb"), (Cut{"  a\n", kBlankLine}));
  EXPECT_EQ(CutAt({kBlankLine}, "def f():\n", "  a\r\n\r\nb"), (Cut{"  a\r\n", kBlankLine}));
  EXPECT_EQ(CutAt({kBlankLine}, "def f():\n", "  a\n  "), (Cut{"  a\n  ", std::nullopt}));
}

TEST(CodeStops, ALineThatThePromptBeganIsNotBlank) {
  EXPECT_EQ(CutAt({kBlankLine}, "def f():", "\n  a\n\n"), (Cut{"\n  a\n", kBlankLine}));
  EXPECT_EQ(CutAt({kBlankLine}, "def f():\n  ", "\n"), (Cut{"", kBlankLine}));
}

TEST(CodeStops, DedentComparesWithThePromptsLastLine) {
  const std::string prompt = "class A:\n    def f(self):\n        \"\"\"Doc.\"\"\"\n";
  EXPECT_EQ(CutAt({kDedent}, prompt, "        x = 1\n\n        return x\n\n    def g"),
            (Cut{"        x = 1\n\n        return x\n\n", kDedent}));
  EXPECT_EQ(CutAt({kDedent}, prompt, "        if x:\n            y\n        z"),
            (Cut{"        if x:\n            y\n        z", std::nullopt}));
  EXPECT_EQ(CutAt({kDedent}, prompt, "x"), (Cut{"", kDedent}));
}

TEST(CodeStops, DedentComparesWithTheFirstLineAfterAColon) {
  EXPECT_EQ(CutAt({kDedent}, "def f():\n", "  a\n  b\n c"), (Cut{"  a\n  b\n", kDedent}));
  EXPECT_EQ(CutAt({kDedent}, "  def f():  \n\n", "\n\t\ta\n\n\tb"), (Cut{"\n\t\ta\n\n", kDedent}));
  EXPECT_EQ(CutAt({kDedent}, "def f():\n", "a\nb\nc"), (Cut{"a\nb\nc", std::nullopt}));
}

TEST(CodeStops, DedentReadsThePromptsLastLineAsTheTextCompletesIt) {
  EXPECT_EQ(CutAt({kDedent}, "def f(", "x):\n    a\nb"), (Cut{"x):\n    a\n", kDedent}));
  EXPECT_EQ(CutAt({kDedent}, "    a = ", "1\n    b\nc"), (Cut{"1\n    b\n", kDedent}));
  EXPECT_EQ(CutAt({kDedent}, "def f():\n    ", "a\n    b\n  c"), (Cut{"a\n    b\n", kDedent}));
}

TEST(CodeStops, DedentNeedsALineToCompareWith) {
  EXPECT_EQ(CutAt({kDedent}, "", "    a\nb"), (Cut{"    a\nb", std::nullopt}));
  EXPECT_EQ(CutAt({kDedent}, " \n\t\n", "    a\nb"), (Cut{"    a\nb", std::nullopt}));
}

TEST(CodeStops, TabsGoToTheNextMultipleOfEight) {
  EXPECT_EQ(CutAt({kDedent}, "\tx\n", "        y\n  \tz\n       w"),
            (Cut{"        y\n  \tz\n", kDedent}));
}

TEST(CodeStops, TopLevelIsANonBlankLineAtColumnZero) {
  EXPECT_EQ(CutAt({kTopLevel}, "def f():\n", "    a\n\n  \ndef g"),
            (Cut{"    a\n\n  \n", kTopLevel}));
  EXPECT_EQ(CutAt({kTopLevel}, "def f(", "):\n  a\n#"), (Cut{"):\n  a\n", kTopLevel}));
  EXPECT_EQ(CutAt({kTopLevel}, "x = 1\n", "y"), (Cut{"", kTopLevel}));
  EXPECT_EQ(CutAt({kTopLevel}, "if x:\n  ", "y"), (Cut{"y", std::nullopt}));
}

TEST(CodeStops, OfSeveralTheOneThatBeginsFirstWins) {
  EXPECT_EQ(CutAt({kLineEnd, kBlankLine}, "a:\n", "  \n"), (Cut{"", kBlankLine}));
  EXPECT_EQ(CutAt({kLineEnd, kBlankLine}, "a:\n", "\n"), (Cut{"", kLineEnd}));
  EXPECT_EQ(CutAt({kTopLevel, kDedent}, "  a\n", "b"), (Cut{"", kDedent}));
}

TEST(CodeStops, HoldsNothingBackThatNoMatchCanTake) {
  const auto held = [](const std::vector<StopCondition>& conditions, std::string_view text) {
    CodeStopMatcher matcher(conditions, "  a\n");
    for (const char byte : text) matcher.Append(byte);
    return matcher.held_bytes();
  };
  EXPECT_EQ(held({}, "  "), 0U);
  EXPECT_EQ(held({kLineEnd}, "  "), 0U);
  EXPECT_EQ(held({kTopLevel}, " "), 0U);
  EXPECT_EQ(held({kTopLevel}, "\r"), 1U);
  EXPECT_EQ(held({kDedent}, " "), 1U);
  EXPECT_EQ(held({kDedent}, "  "), 0U);
  EXPECT_EQ(held({kBlankLine}, "    "), 4U);
  EXPECT_EQ(held({kBlankLine}, "    x"), 0U);
}

}  // namespace
}  // namespace phi::service
