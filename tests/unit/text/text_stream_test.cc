#include "service/text/text_stream.h"

#include <algorithm>
#include <array>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/text/golden_data.h"
#include "tests/unit/text/stop_reference.h"

namespace phi::service {
namespace {

using Ids = std::vector<uint32_t>;

// GPT-2's ids of the single bytes.
uint32_t ByteId(char byte) {
  for (uint32_t id = 0; id < 256; ++id) {
    if (CodeGenTokenizer().TokenBytes(id) == std::string_view(&byte, 1)) return id;
  }
  ADD_FAILURE();
  return 0;
}

Ids ByteIds(std::string_view text) {
  Ids ids;
  for (const char byte : text) ids.push_back(ByteId(byte));
  return ids;
}

struct Outcome {
  std::string text;
  std::vector<std::string> deltas;
  std::vector<size_t> tokens;  // of each delta
  std::optional<std::variant<std::string, StopCondition>> stop;
  uint32_t generated_tokens = 0;
};

Outcome Stream(const Ids& ids, const StopRules& rules, std::string_view prompt = "") {
  TextStream stream(CodeGenTokenizer(), rules, prompt);
  Outcome outcome;
  const auto take = [&](TextDelta delta) {
    EXPECT_TRUE(IsValidUtf8(delta.text));
    outcome.text += delta.text;
    outcome.deltas.push_back(std::move(delta.text));
    outcome.tokens.push_back(delta.tokens);
    if (delta.stop) outcome.stop = delta.stop;
  };
  for (const uint32_t id : ids) {
    take(*stream.Append(id));
    if (stream.ended()) break;
  }
  take(stream.Finish());
  EXPECT_TRUE(stream.ended());
  outcome.generated_tokens = stream.generated_tokens();
  return outcome;
}

// What the stream must do, found from whole decodes, without any state: the reference.
class Reference {
 public:
  Reference(const Ids& ids, const StopRules& rules, std::string_view prompt)
      : rules_(rules), prompt_(prompt) {
    std::string bytes;
    for (const uint32_t id : ids) {
      bytes += CodeGenTokenizer().TokenBytes(id);
      Utf8LossyDecoder decoder;
      std::string decoded;
      decoder.Append(bytes, decoded);
      decoded_sizes_.push_back(decoded.size());
      token_is_open_.push_back(decoder.has_open_character());
    }
    text_ = DecodeUtf8Lossy(bytes);
    FindEnd();
  }

  // The stopped text, and the number of tokens it took.
  std::string FinalText() const { return text_.substr(0, final_size_); }
  size_t generated_tokens() const { return generated_tokens_; }
  const std::optional<ReferenceStop>& stop() const { return stop_; }

  // The length of the text that a caller may see once `tokens` tokens are there and none stopped.
  size_t VisibleSize(size_t tokens) const {
    const size_t decoded = decoded_sizes_[tokens - 1];
    return decoded - HeldBytes(prompt_, std::string_view(text_).substr(0, decoded), rules_);
  }

  // How many tokens have their last byte in the first `size` bytes.
  size_t CoveredTokens(size_t tokens, size_t size) const {
    size_t covered = 0;
    while (covered < tokens && TokenEnd(covered) <= size) ++covered;
    return covered;
  }

 private:
  size_t TokenEnd(size_t token) const {
    size_t end = decoded_sizes_[token];
    if (!token_is_open_[token]) return end;
    do ++end;
    while (end < text_.size() && (static_cast<unsigned char>(text_[end]) & 0xC0) == 0x80);
    return end;
  }

  size_t TokensToDecode(size_t size) const {
    for (size_t token = 0; token < decoded_sizes_.size(); ++token) {
      if (decoded_sizes_[token] >= size) return token + 1;
    }
    return decoded_sizes_.size();
  }

  void FindEnd() {
    final_size_ = text_.size();
    generated_tokens_ = decoded_sizes_.size();
    stop_ = FirstStop(prompt_, text_, rules_, [this](size_t complete) {
      return TokensToDecode(complete) > rules_.min_new_tokens;
    });
    if (!stop_) return;
    final_size_ = rules_.include_stop ? stop_->span.end : stop_->span.begin;
    generated_tokens_ = TokensToDecode(stop_->complete);
  }

  const StopRules& rules_;
  const std::string_view prompt_;
  std::string text_;
  std::vector<size_t> decoded_sizes_;  // after each token, without an open character
  std::vector<bool> token_is_open_;
  size_t final_size_ = 0;
  size_t generated_tokens_ = 0;
  std::optional<ReferenceStop> stop_;
};

// What stopped the text, or nothing.
std::optional<std::variant<std::string, StopCondition>> ExpectAsReference(
    const Ids& ids, const StopRules& rules, std::string_view prompt = "") {
  const Reference reference(ids, rules, prompt);
  const Outcome outcome = Stream(ids, rules, prompt);
  EXPECT_EQ(outcome.text, reference.FinalText());
  EXPECT_EQ(outcome.generated_tokens, reference.generated_tokens());
  EXPECT_EQ(outcome.stop.has_value(), reference.stop().has_value());
  if (outcome.stop && reference.stop()) {
    EXPECT_EQ(*outcome.stop, reference.stop()->stop);
  }
  size_t size = 0;
  size_t counted = 0;
  const bool stopped = outcome.stop.has_value();
  for (size_t i = 0; i < outcome.deltas.size(); ++i) {
    size += outcome.deltas[i].size();
    counted += outcome.tokens[i];
    const size_t tokens = i + 1;
    if (tokens > ids.size() || (stopped && tokens >= outcome.generated_tokens)) continue;
    EXPECT_EQ(size, reference.VisibleSize(tokens));
    EXPECT_EQ(counted, reference.CoveredTokens(tokens, size));
  }
  EXPECT_EQ(counted, outcome.generated_tokens);
  return outcome.stop;
}

std::string RandomText(std::mt19937& random,
                       std::initializer_list<const char*> parts,
                       size_t count) {
  std::string text;
  for (size_t i = 0; i < count; ++i) text += parts.begin()[random() % parts.size()];
  return text;
}

// Few different characters, so that stops match, overlap and nearly match.
StopRules RandomRules(std::mt19937& random) {
  StopRules rules;
  for (size_t n = random() % 5; n > 0; --n) {
    rules.strings.push_back(RandomText(
        random, {"a", "b", "\xC3\xA9", "\xE2\x82\xAC", "\n", "\xEF\xBF\xBD"}, 1 + random() % 5));
  }
  rules.include_stop = random() % 2 == 0;
  rules.min_new_tokens = random() % 3 == 0 ? static_cast<uint32_t>(random() % 10) : 0;
  return rules;
}

TEST(TextStream, EqualsTheWholeDecodeCutAtTheStopForAnySplitOfBytes) {
  std::mt19937 random(1);
  for (int round = 0; round < 20000; ++round) {
    const std::string text = RandomText(
        random,
        {"a", "b", "a", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80", "\n", "\xE2\x82", "\xFF"},
        random() % 16);
    ExpectAsReference(ByteIds(text), RandomRules(random));
    ASSERT_FALSE(testing::Test::HasFailure()) << "round " << round;
  }
}

TEST(TextStream, EqualsTheWholeDecodeForAnyTokens) {
  std::mt19937 random(2);
  for (int round = 0; round < 20000; ++round) {
    Ids ids;
    for (size_t n = random() % 12; n > 0; --n) {
      ids.push_back(static_cast<uint32_t>(random() % (random() % 2 == 0 ? 256 : 50295)));
    }
    StopRules rules = RandomRules(random);
    // A stop that is really there, cut from the text at random.
    std::string stop = CodeGenTokenizer().Decode(ids)->substr(random() % (ids.size() + 1));
    while (!stop.empty() && !IsValidUtf8(stop)) stop.erase(0, 1);
    while (stop.size() > 6 || !IsValidUtf8(stop)) stop.pop_back();
    if (!stop.empty()) rules.strings.push_back(stop);
    ExpectAsReference(ids, rules);
    ASSERT_FALSE(testing::Test::HasFailure()) << "round " << round;
  }
}

// Prompts and texts that look like code to the conditions: white space of every kind, colons, ends
// of lines of every kind, and characters of several bytes, also broken ones.
std::string RandomCode(std::mt19937& random, size_t count) {
  return RandomText(
      random,
      {"a",    ":",    " ",       "  ",   "    ", "\t",       "\n",           "\n",
       "\n\n", "\r",   "\r\n",    "\f",   "\v",   "\xC3\xA9", "\xE2\x82\xAC", "\xE2\x82",
       "\xFF", "b:\n", "    a\n", "\ta\n"},
      count);
}

// As a tokenizer cuts it, or at any byte, or mixed.
Ids RandomSplit(std::mt19937& random, std::string_view text) {
  Ids ids;
  while (!text.empty()) {
    const std::string_view part = text.substr(0, 1 + random() % 6);
    if (random() % 2 == 0 && IsValidUtf8(part)) {
      const auto encoded = *CodeGenTokenizer().Encode(part, {.max_tokens = 16});
      ids.insert(ids.end(), encoded.begin(), encoded.end());
    } else {
      const Ids bytes = ByteIds(part);
      ids.insert(ids.end(), bytes.begin(), bytes.end());
    }
    text.remove_prefix(part.size());
  }
  return ids;
}

TEST(TextStream, EqualsTheWholeTextCutAtTheConditionForAnySplitOfCode) {
  std::mt19937 random(3);
  int by_string = 0;
  std::array<int, 5> by_condition{};
  for (int round = 0; round < 30000; ++round) {
    const std::string prompt = DecodeUtf8Lossy(RandomCode(random, random() % 10));
    const std::string text = RandomCode(random, random() % 16);
    StopRules rules;
    for (int condition = 1; condition <= 4; ++condition) {
      if (random() % 3 == 0) rules.conditions.push_back(StopCondition{condition});
    }
    std::shuffle(rules.conditions.begin(), rules.conditions.end(), random);
    for (size_t n = random() % 4; n > 1; --n) {
      rules.strings.push_back(DecodeUtf8Lossy(RandomCode(random, 1 + random() % 3)));
    }
    rules.include_stop = random() % 2 == 0;
    rules.min_new_tokens = random() % 3 == 0 ? static_cast<uint32_t>(random() % 12) : 0;
    const auto stop = ExpectAsReference(RandomSplit(random, text), rules, prompt);
    ASSERT_FALSE(testing::Test::HasFailure())
        << "round " << round << ", prompt " << testing::PrintToString(prompt) << ", text "
        << testing::PrintToString(text);
    if (!stop) continue;
    if (const auto* condition = std::get_if<StopCondition>(&*stop)) {
      ++by_condition[static_cast<size_t>(*condition)];
    } else {
      ++by_string;
    }
  }
  for (int condition = 1; condition <= 4; ++condition) EXPECT_GT(by_condition[condition], 1000);
  EXPECT_GT(by_string, 1000);
}

TEST(TextStream, NeverEmitsHalfACharacter) {
  const Outcome outcome = Stream(ByteIds("x\xF0\x9F\x98\x80y"), {});
  EXPECT_THAT(outcome.deltas, testing::ElementsAre("x", "", "", "", "\xF0\x9F\x98\x80", "y", ""));
  EXPECT_THAT(outcome.tokens, testing::ElementsAre(1, 0, 0, 0, 4, 1, 0));
}

TEST(TextStream, FlushesAnUnfinishedCharacterAtTheEnd) {
  const Outcome outcome = Stream(ByteIds("x\xF0\x9F"), {});
  EXPECT_THAT(outcome.deltas, testing::ElementsAre("x", "", "", "\xEF\xBF\xBD"));
  EXPECT_THAT(outcome.tokens, testing::ElementsAre(1, 0, 0, 2));
}

TEST(TextStream, HoldsTextBackOnlyWhileItMayBecomeAStop) {
  const Outcome outcome = Stream(ByteIds("\n\nx\n\n\n"), {.strings = {"\n\n\n"}});
  EXPECT_THAT(outcome.deltas, testing::ElementsAre("", "", "\n\nx", "", "", "", ""));
  EXPECT_THAT(outcome.tokens, testing::ElementsAre(0, 0, 3, 0, 0, 3, 0));
  EXPECT_EQ(std::get<std::string>(*outcome.stop), "\n\n\n");
}

TEST(TextStream, FirstCompleteStopWinsThenTheLongest) {
  EXPECT_EQ(Stream(ByteIds("abcd"), {.strings = {"abcd", "bc"}}).text, "a");
  EXPECT_EQ(Stream(ByteIds("abcd"), {.strings = {"c", "abc"}}).text, "");
  EXPECT_EQ(Stream(ByteIds("abcd"), {.strings = {"c", "abc"}, .include_stop = true}).text, "abc");
}

TEST(TextStream, StopMayLieWithinOneTokenOrOverMany) {
  const auto ids = *CodeGenTokenizer().Encode("return value\n", {.max_tokens = 9});
  EXPECT_EQ(Stream(ids, {.strings = {"tur"}}).text, "re");
  EXPECT_EQ(Stream(ids, {.strings = {"tur"}}).generated_tokens, 1U);
  EXPECT_EQ(Stream(ids, {.strings = {"n v"}}).text, "retur");
}

TEST(TextStream, IgnoresStopsBeforeMinNewTokens) {
  const Ids ids = ByteIds("a.b.c.d");
  EXPECT_EQ(Stream(ids, {.strings = {"."}}).text, "a");
  EXPECT_EQ(Stream(ids, {.strings = {"."}, .min_new_tokens = 1}).text, "a");
  EXPECT_EQ(Stream(ids, {.strings = {"."}, .min_new_tokens = 2}).text, "a.b");
  EXPECT_EQ(Stream(ids, {.strings = {"."}, .min_new_tokens = 7}).text, "a.b.c.d");
}

TEST(TextStream, RefusesWhatIsNoTokenAndWhatComesAfterTheEnd) {
  TextStream stream(CodeGenTokenizer(), {}, "");
  EXPECT_EQ(stream.Append(50295).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(stream.Append(0)->text, "!");
  EXPECT_EQ(stream.generated_tokens(), 1U);
  EXPECT_EQ(stream.Finish().text, "");
  EXPECT_EQ(stream.Append(0).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(TextStream, StopConditionsCutTextAndRaceWithStrings) {
  const std::string prompt = "def f(x):\n";
  const Ids ids = ByteIds("    return x\n\nprint(f(1))\n");
  const StopRules dedent{.conditions = {StopCondition::kDedent}};
  const Outcome outcome = Stream(ids, dedent, prompt);
  EXPECT_EQ(outcome.text, "    return x\n\n");
  EXPECT_EQ(std::get<StopCondition>(*outcome.stop), StopCondition::kDedent);
  const StopRules both{.strings = {"\n\n"}, .conditions = {StopCondition::kBlankLine}};
  EXPECT_EQ(std::get<std::string>(*Stream(ids, both, prompt).stop), "\n\n");
  EXPECT_EQ(Stream(ids, both, prompt).text, "    return x");
}

TEST(TextStream, CharactersOfADedentedLineAreNeverCut) {
  const StopRules rules{.conditions = {StopCondition::kTopLevel}, .include_stop = true};
  EXPECT_EQ(Stream(ByteIds(" x\n\xC3\xA9 = 1"), rules, "def f():\n").text, " x\n");
}

}  // namespace
}  // namespace phi::service
