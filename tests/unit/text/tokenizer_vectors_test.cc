// Our tokens against those of Hugging Face tokenizers 0.23.3, stored in tests/golden/tokenizer/ by
// tools/golden/tokenizer_vectors.py (its README there names the command).

#include <cstdint>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "service/text/unicode_differences.h"
#include "service/text/word_splitter.h"
#include "tests/unit/text/golden_data.h"

namespace phi::service {
namespace {

using Json = nlohmann::json;

constexpr uint32_t kCodePoints = 0x110000;
const Tokenizer::EncodeLimits kNoLimit{.max_tokens = SIZE_MAX};

std::string Utf8(uint32_t code) {
  // JSON's \u escapes would need surrogate pairs; the four forms are as short.
  const auto tail = [code](int shift) {
    return static_cast<char>(0x80 | ((code >> shift) & 0x3F));
  };
  if (code < 0x80) return {static_cast<char>(code)};
  if (code < 0x800) return {static_cast<char>(0xC0 | code >> 6), tail(0)};
  if (code < 0x10000) return {static_cast<char>(0xE0 | code >> 12), tail(6), tail(0)};
  return {static_cast<char>(0xF0 | code >> 18), tail(12), tail(6), tail(0)};
}

bool IsSurrogate(uint32_t code) { return code >= 0xD800 && code <= 0xDFFF; }

TEST(TokenizerVectors, EncodesEveryTextAsHuggingFaceAndBack) {
  const Tokenizer& tokenizer = CodeGenTokenizer();
  const auto lines = ReadGoldenLines("encode.jsonl.gz");
  ASSERT_GE(lines.size(), 20000U);
  for (const std::string& line : lines) {
    const Json row = Json::parse(line);
    const auto text = row[0].get<std::string>();
    const auto ids = tokenizer.Encode(text, kNoLimit);
    ASSERT_TRUE(ids.ok()) << ids.status() << " for " << line;
    ASSERT_EQ(*ids, row[1].get<std::vector<uint32_t>>()) << line;
    const auto decoded = tokenizer.Decode(*ids);
    ASSERT_TRUE(decoded.ok());
    ASSERT_EQ(*decoded, text);
  }
}

TEST(TokenizerVectors, DecodesRandomIdsAsHuggingFace) {
  const auto lines = ReadGoldenLines("decode.jsonl.gz");
  ASSERT_GE(lines.size(), 1000U);
  for (const std::string& line : lines) {
    const Json row = Json::parse(line);
    const auto text = CodeGenTokenizer().Decode(row[0].get<std::vector<uint32_t>>());
    ASSERT_TRUE(text.ok());
    ASSERT_EQ(*text, row[1].get<std::string>()) << line;
  }
}

// Every character's class by Hugging Face: 'L', 'N', 'S', or 'O' for none of them.
std::string HuggingFaceClasses() {
  std::string classes(kCodePoints, 'O');
  for (const std::string& line : ReadGoldenLines("unicode_classes.txt")) {
    std::istringstream fields(line);
    uint32_t first = 0;
    uint32_t last = 0;
    char name = 0;
    fields >> std::hex >> first >> last >> name;
    for (uint32_t code = first; code <= last; ++code) classes[code] = name;
  }
  return classes;
}

class CharacterClassifier {
 public:
  CharacterClassifier() : splitter_(*WordSplitter::Create()) {}

  // As the generator asks Hugging Face: a character joins a word exactly if it is of its class.
  char Classify(uint32_t code) {
    for (const auto& [name, word] :
         {std::pair('L', "a"), std::pair('N', "1"), std::pair('O', "!")}) {
      const std::string text = word + Utf8(code);
      scanner_.Start(text);
      if (scanner_.Next()->size() == text.size()) return name;
    }
    return 'S';
  }

 private:
  WordSplitter splitter_;
  WordSplitter::Scanner scanner_ = *WordSplitter::Scanner::Create(splitter_);
};

TEST(UnicodeDifferences, EveryCharacterHasTheClassThatHuggingFaceGivesIt) {
  const std::string expected = HuggingFaceClasses();
  CharacterClassifier classifier;
  for (uint32_t code = 0; code < kCodePoints; ++code) {
    if (IsSurrogate(code)) continue;
    ASSERT_EQ(classifier.Classify(code), expected[code]) << "U+" << std::hex << code;
  }
}

TEST(UnicodeDifferences, EveryRowOfTheTableIsTheClassThatHuggingFaceGives) {
  const std::string expected = HuggingFaceClasses();
  for (const UnicodeDifference& row : kUnicodeDifferences) {
    ASSERT_LE(row.first, row.last);
    for (uint32_t code = row.first; code <= row.last; ++code) {
      ASSERT_EQ(static_cast<char>(row.hugging_face), expected[code]) << "U+" << std::hex << code;
    }
  }
}

TEST(UnicodeDifferences, MongolianVowelSeparatorIsNoSpace) {
  EXPECT_EQ(CharacterClassifier().Classify(0x180E), 'O');
}

TEST(CodeGenTokenizer, HasTheFactsOfPhi) {
  const Tokenizer& tokenizer = CodeGenTokenizer();
  EXPECT_EQ(tokenizer.vocab_size(), 50295U);
  EXPECT_EQ(tokenizer.eos_id(), 50256U);
  EXPECT_EQ(tokenizer.TokenBytes(50256), "<|endoftext|>");
  EXPECT_EQ(tokenizer.TokenBytes(50257), std::string(31, ' '));
  EXPECT_EQ(tokenizer.TokenBytes(50294), "\t\t");
}

TEST(CodeGenTokenizer, NeverEncodesEndOfTextAsTheSpecialToken) {
  const auto ids = CodeGenTokenizer().Encode("<|endoftext|>", kNoLimit);
  ASSERT_TRUE(ids.ok());
  EXPECT_THAT(*ids, testing::Not(testing::Contains(50256U)));
  EXPECT_GT(ids->size(), 1U);
}

}  // namespace
}  // namespace phi::service
