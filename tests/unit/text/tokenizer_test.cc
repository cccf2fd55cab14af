#include "service/text/tokenizer.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <random>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/text/golden_data.h"
#include "tests/unit/text/tiny_tokenizer.h"

namespace phi::service {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Ids = std::vector<uint32_t>;

const Tokenizer::EncodeLimits kNoLimit{.max_tokens = SIZE_MAX};

Tokenizer Make(const nlohmann::json& json) {
  auto tokenizer = Tokenizer::FromJson(json.dump());
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

TEST(Tokenizer, MergesByRankAndMatchesAddedTokensLongestFirst) {
  const Tokenizer tokenizer = Make(TinyTokenizerJson());
  EXPECT_EQ(tokenizer.vocab_size(), 261U);
  EXPECT_EQ(tokenizer.eos_id(), 260U);
  EXPECT_THAT(*tokenizer.Encode("abc", kNoLimit), ElementsAre(257));
  EXPECT_THAT(*tokenizer.Encode("abab", kNoLimit), ElementsAre(256, 256));
  EXPECT_THAT(*tokenizer.Encode("   ", kNoLimit), ElementsAre(259));
  EXPECT_THAT(*tokenizer.Encode("     ", kNoLimit), ElementsAre(259, 258));
  EXPECT_THAT(*tokenizer.Encode("    a", kNoLimit), ElementsAre(259, ' ', 'a'));
  EXPECT_THAT(*tokenizer.Encode("", kNoLimit), ElementsAre());
}

TEST(Tokenizer, EncodesTheSpecialTokenAsItsLetters) {
  const auto ids = Make(TinyTokenizerJson()).Encode("a<|endoftext|>", kNoLimit);
  EXPECT_EQ(*ids, Ids({'a', '<', '|', 'e', 'n', 'd', 'o', 'f', 't', 'e', 'x', 't', '|', '>'}));
}

// As Hugging Face's matcher: a special token, though ordinary text, hides what overlaps it.
TEST(Tokenizer, SpecialTokenHidesAnAddedTokenWithinIt) {
  nlohmann::json json = TinyTokenizerJson();
  json["added_tokens"][2]["content"] = "<  >";
  json["added_tokens"][2]["normalized"] = true;
  const Tokenizer tokenizer = Make(json);
  EXPECT_EQ(*tokenizer.Encode("<  >  ", kNoLimit), Ids({'<', ' ', ' ', '>', 258}));
  EXPECT_EQ(tokenizer.eos_id(), std::nullopt);
}

TEST(Tokenizer, TokenBytesAreRawAndDecodeReplacesWhatIsNotUtf8) {
  const Tokenizer tokenizer = Make(TinyTokenizerJson());
  for (uint32_t byte = 0; byte < 256; ++byte) {
    EXPECT_EQ(tokenizer.TokenBytes(byte), std::string(1, static_cast<char>(byte)));
  }
  EXPECT_EQ(*tokenizer.Decode(Ids{0xE2, 0x82, 0xAC, 259, 0xE2, 260}),
            "\xE2\x82\xAC   \xEF\xBF\xBD<|endoftext|>");
  EXPECT_EQ(tokenizer.Decode(Ids{261}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(tokenizer.Decode(Ids{UINT32_MAX}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(Tokenizer, RefusesVocabulariesThatCannotSpellEveryByteOrMerge) {
  nlohmann::json json = TinyTokenizerJson();
  json["model"]["vocab"]["zz"] = json["model"]["vocab"]["!"];
  json["model"]["vocab"].erase("!");
  EXPECT_THAT(Tokenizer::FromJson(json.dump()).status().ToString(), HasSubstr("byte 0x21"));
  json = TinyTokenizerJson();
  json["model"]["merges"].push_back({"a", "z"});
  EXPECT_THAT(Tokenizer::FromJson(json.dump()).status().ToString(), HasSubstr("model.merges[2]"));
  json = TinyTokenizerJson();
  json["model"]["merges"].push_back({"a", "b"});
  EXPECT_THAT(Tokenizer::FromJson(json.dump()).status().ToString(), HasSubstr("twice"));
}

TEST(Tokenizer, LoadNamesTheFileInItsErrors) {
  EXPECT_EQ(Tokenizer::Load("/no/such/tokenizer.json").status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_THAT(Tokenizer::Load("/").status().ToString(), HasSubstr("/: "));
  const std::string path = testing::TempDir() + "tokenizer_test." + std::to_string(getpid());
  std::ofstream(path) << TinyTokenizerJson().dump();
  EXPECT_TRUE(Tokenizer::Load(path).ok());
  std::ofstream(path) << "{";
  EXPECT_THAT(Tokenizer::Load(path).status().ToString(), HasSubstr(path));
  std::filesystem::resize_file(path, (uintmax_t{64} << 20) + 1);  // sparse
  EXPECT_THAT(Tokenizer::Load(path).status().ToString(), HasSubstr("64 MiB"));
  std::remove(path.c_str());
}

TEST(Tokenizer, LimitsAreExact) {
  const Tokenizer& tokenizer = CodeGenTokenizer();
  const std::string text = "def f(x):\n    return x + 1\n";
  const size_t tokens = tokenizer.Encode(text, kNoLimit)->size();
  EXPECT_TRUE(tokenizer.Encode(text, {.max_tokens = tokens}).ok());
  EXPECT_EQ(tokenizer.Encode(text, {.max_tokens = tokens - 1}).status().code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_TRUE(tokenizer.Encode("", {.max_tokens = 0}).ok());
  // The longest token alone is one token; twice it is more than one.
  const std::string longest(128, '-');
  EXPECT_EQ(tokenizer.Encode(longest, kNoLimit)->size(), 2U);
  for (size_t size = 1; size < 300; ++size) {
    const std::string spaces(size, ' ');
    const size_t needed = tokenizer.Encode(spaces, kNoLimit)->size();
    ASSERT_TRUE(tokenizer.Encode(spaces, {.max_tokens = needed}).ok()) << size;
    ASSERT_FALSE(tokenizer.Encode(spaces, {.max_tokens = needed - 1}).ok()) << size;
  }
}

TEST(Tokenizer, StopsWhenCancelledAndRefusesBrokenUtf8) {
  std::stop_source source;
  source.request_stop();
  const auto cancelled =
      CodeGenTokenizer().Encode("a b", {.max_tokens = 9, .cancelled = source.get_token()});
  EXPECT_EQ(cancelled.status().code(), absl::StatusCode::kCancelled);
  for (const char* broken : {"\xFF", "a\xE2\x82", "\xED\xA0\x80", "\xC0\x80"}) {
    EXPECT_EQ(CodeGenTokenizer().Encode(broken, kNoLimit).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
}

TEST(Tokenizer, ThreadsShareOne) {
  const std::string text = "for i in range(10):\n\tprint(i)  # caf\xC3\xA9\n";
  const auto expected = *CodeGenTokenizer().Encode(text, kNoLimit);
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) EXPECT_EQ(*CodeGenTokenizer().Encode(text, kNoLimit), expected);
    });
  }
}

struct HardText {
  const char* name;
  std::string (*unit)(std::mt19937&);
};

std::string OneOf(std::mt19937& random, std::string_view characters) {
  return std::string(1, characters[random() % characters.size()]);
}

class HardTexts : public testing::TestWithParam<HardText> {};

double CpuSeconds(const std::string& text) {
  double best = 1e9;
  for (int round = 0; round < 2; ++round) {
    const std::clock_t start = std::clock();
    const auto ids = CodeGenTokenizer().Encode(text, kNoLimit);
    best = std::min(best, static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC);
    EXPECT_TRUE(ids.ok());
  }
  return best;
}

TEST_P(HardTexts, CostNearlyLinearTime) {
  std::mt19937 random(1);
  std::string text;
  while (text.size() < 65536) text += GetParam().unit(random);
  const double quarter = CpuSeconds(text);
  while (text.size() < 262144) text += GetParam().unit(random);
  const double whole = CpuSeconds(text);
  EXPECT_EQ(*CodeGenTokenizer().Decode(*CodeGenTokenizer().Encode(text, kNoLimit)), text);
  RecordProperty("whole_ms", static_cast<int>(whole * 1e3));
  // 4 is linear and 16 is quadratic; the constant stands for the clock's resolution.
  EXPECT_LT(whole, 10 * quarter + 0.005);
}

INSTANTIATE_TEST_SUITE_P(
    Tokenizer,
    HardTexts,
    testing::Values(
        HardText{"one_letter", [](std::mt19937&) { return std::string("a"); }},
        HardText{"letters", [](std::mt19937& r) { return OneOf(r, "abcdefghijklmnopqrstuvwxyz"); }},
        HardText{"digits", [](std::mt19937& r) { return OneOf(r, "0123456789"); }},
        HardText{"spaces", [](std::mt19937&) { return std::string(" "); }},
        HardText{"newlines", [](std::mt19937&) { return std::string("\n"); }},
        HardText{"mixed_spaces", [](std::mt19937& r) { return OneOf(r, " \t\n\r"); }},
        HardText{"dashes", [](std::mt19937&) { return std::string("-"); }},
        HardText{"apostrophes", [](std::mt19937&) { return std::string("'"); }},
        HardText{"emoji", [](std::mt19937&) { return std::string("\xF0\x9F\x98\x80"); }},
        HardText{"special", [](std::mt19937&) { return std::string("<|endoftext|"); }}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace phi::service
