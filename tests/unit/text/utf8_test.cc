#include "service/text/utf8.h"

#include <optional>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace phi::service {
namespace {

// Decodes by arithmetic, the other way round than the table of allowed bytes: the reference.
std::optional<uint32_t> SlowDecode(std::string_view bytes) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const std::vector<std::pair<unsigned, unsigned>> leads = {
      {0x00, 0x7F}, {0xC0, 0x1F}, {0xE0, 0x0F}, {0xF0, 0x07}};
  const uint32_t smallest[] = {0, 0x80, 0x800, 0x10000};
  const size_t size = bytes.size();
  if (size < 1 || size > 4 || (byte(0) & ~leads[size - 1].second & 0xFF) != leads[size - 1].first) {
    return std::nullopt;
  }
  uint32_t code = byte(0) & leads[size - 1].second;
  for (size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return std::nullopt;
    code = code << 6 | (byte(i) & 0x3F);
  }
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  if (code < smallest[size - 1] || code > 0x10FFFF || surrogate) return std::nullopt;
  return code;
}

bool SlowIsValid(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    size_t size = 1;
    while (size <= 4 && (i + size > text.size() || !SlowDecode(text.substr(i, size)))) ++size;
    if (size > 4) return false;
    i += size;
  }
  return true;
}

TEST(IsValidUtf8, AgreesWithArithmeticOnEveryThreeBytesFromE0AndASampleBelow) {
  for (unsigned value = 0; value < 1U << 24; value += value < 0xE00000 ? 0x101 : 1) {
    const std::string bytes = {static_cast<char>(value >> 16),
                               static_cast<char>(value >> 8 & 0xFF),
                               static_cast<char>(value & 0xFF)};
    ASSERT_EQ(IsValidUtf8(bytes), SlowIsValid(bytes)) << std::hex << value;
  }
}

TEST(IsValidUtf8, KnowsTheBordersOfFourBytes) {
  EXPECT_TRUE(IsValidUtf8("\xF0\x90\x80\x80"));
  EXPECT_TRUE(IsValidUtf8("\xF4\x8F\xBF\xBF"));
  EXPECT_FALSE(IsValidUtf8("\xF0\x8F\xBF\xBF"));  // overlong
  EXPECT_FALSE(IsValidUtf8("\xF4\x90\x80\x80"));  // above U+10FFFF
  EXPECT_FALSE(IsValidUtf8("\xF5\x80\x80\x80"));
  EXPECT_FALSE(IsValidUtf8("\xF0\x90\x80"));
  EXPECT_TRUE(IsValidUtf8(""));
  EXPECT_TRUE(IsValidUtf8(std::string_view("\0", 1)));
}

TEST(IsValidUtf8, FindsABadByteAnywhereInALongText) {
  std::string text(40, 'x');
  for (size_t i = 0; i < text.size(); ++i) {
    text[i] = '\x80';
    EXPECT_FALSE(IsValidUtf8(text)) << i;
    text[i] = 'x';
  }
  EXPECT_TRUE(IsValidUtf8(text));
}

// Expected values: Rust's documentation and tests of String::from_utf8_lossy.
TEST(DecodeUtf8Lossy, ReplacesMaximalSubpartsAsRustDoes) {
  const std::string bad = "\xEF\xBF\xBD";
  EXPECT_EQ(DecodeUtf8Lossy("Hello \xF0\x90\x80World"), "Hello " + bad + "World");
  EXPECT_EQ(DecodeUtf8Lossy("Hello\xC2 There\xFF Goodbye"),
            "Hello" + bad + " There" + bad + " Goodbye");
  EXPECT_EQ(DecodeUtf8Lossy("Hello\xC0\x80 There\xE6\x83 Goodbye"),
            "Hello" + bad + bad + " There" + bad + " Goodbye");
  EXPECT_EQ(DecodeUtf8Lossy("\xF5"
                            "foo\xF5\x80"
                            "bar"),
            bad + "foo" + bad + bad + "bar");
  EXPECT_EQ(DecodeUtf8Lossy("\xF1"
                            "foo\xF1\x80"
                            "bar\xF1\x80\x80"
                            "baz"),
            bad + "foo" + bad + "bar" + bad + "baz");
  EXPECT_EQ(DecodeUtf8Lossy("\xF4"
                            "foo\xF4\x80"
                            "bar\xF4\xBF"
                            "baz"),
            bad + "foo" + bad + "bar" + bad + bad + "baz");
  EXPECT_EQ(DecodeUtf8Lossy("\xED\xA0\x80"
                            "foo\xED\xBF\xBF"
                            "bar"),
            bad + bad + bad + "foo" + bad + bad + bad + "bar");
}

TEST(Utf8LossyDecoder, NeverEmitsHalfACharacterHoweverTheBytesAreCut) {
  std::mt19937 random(1);
  const std::string bytes =
      "a\x80\xBF\xC2\xC3\xE0\xA0\xE2\x82\xAC\xED\x9F\xF0\x90\x9F\x98\xF4\x8F\xFF";
  for (int round = 0; round < 20000; ++round) {
    std::string whole;
    for (int i = 0; i < 12; ++i) whole += bytes[random() % bytes.size()];
    Utf8LossyDecoder decoder;
    std::string joined;
    for (size_t begin = 0; begin < whole.size();) {
      const size_t size = random() % 4;
      std::string delta;
      decoder.Append(std::string_view(whole).substr(begin, size), delta);
      ASSERT_TRUE(IsValidUtf8(delta));
      joined += delta;
      begin += size;
    }
    decoder.Finish(joined);
    ASSERT_EQ(joined, DecodeUtf8Lossy(whole));
    if (SlowIsValid(whole)) {
      ASSERT_EQ(joined, whole);
    }
  }
}

}  // namespace
}  // namespace phi::service
