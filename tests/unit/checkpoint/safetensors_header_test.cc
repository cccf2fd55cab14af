#include "shard/checkpoint/safetensors_header.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <span>
#include <string>
#include <vector>

#include "tests/unit/checkpoint/scratch_dir.h"

namespace phi::shard {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

absl::StatusOr<std::vector<SafetensorsEntry>> Parse(const std::string& file) {
  return ParseSafetensorsHeader(std::as_bytes(std::span(file)));
}

TEST(SafetensorsHeaderTest, ReadsTensorsInTheOrderOfTheirData) {
  const std::string header = R"({"__metadata__":{"format":"pt"},)"
                             R"("b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},)"
                             R"("none":{"shape":[0,7],"data_offsets":[4,4],"dtype":"F32"},)"
                             R"("a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}  )";
  const auto entries = Parse(SafetensorsBytes(header, 16));
  ASSERT_TRUE(entries.ok()) << entries.status();
  ASSERT_THAT(*entries, SizeIs(3));
  EXPECT_EQ((*entries)[0].name, "a");
  EXPECT_EQ((*entries)[1].name, "none");
  const SafetensorsEntry& b = (*entries)[2];
  EXPECT_EQ(b.name, "b");
  EXPECT_EQ(b.dtype, "BF16");
  EXPECT_THAT(b.shape, ElementsAre(2, 3));
  EXPECT_EQ(b.begin, 8 + header.size() + 4);
  EXPECT_EQ(b.end, 8 + header.size() + 16);
}

struct RefusedFile {
  const char* what;
  std::string file;
  const char* message;
};

void PrintTo(const RefusedFile& file, std::ostream* out) { *out << file.what; }

// One tensor "w" of F32 [2], its entry as given, before eight bytes of data.
std::string WithEntry(const std::string& entry) {
  return SafetensorsBytes("{\"w\":" + entry + "}", 8);
}

std::string Pair(const std::string& first, const std::string& second, size_t data_bytes) {
  return SafetensorsBytes("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" + first +
                              "},\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" + second +
                              "}}",
                          data_bytes);
}

std::string ManyTensors(size_t count) {
  std::string header = "{";
  for (size_t i = 0; i < count; ++i) {
    header += (i == 0 ? "\"" : ",\"") + std::to_string(i) +
              R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  }
  return SafetensorsBytes(header + "}", 0);
}

std::string Repeated(std::string_view text, size_t times) {
  std::string all;
  for (size_t i = 0; i < times; ++i) all += text;
  return all;
}

// What no single tensor is to blame for.
std::vector<RefusedFile> RefusedFraming() {
  const std::string good = R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  return {
      {"empty file", "", "too few"},
      {"seven bytes", "1234567", "too few"},
      {"length 0", LengthBytes(0), "0 bytes"},
      {"length 1", LengthBytes(1) + "{", "1 bytes"},
      {"length beyond the file", LengthBytes(99) + "{}", "only 2 are there"},
      {"length above 100 MB", LengthBytes(100'000'001) + "{}", "not within"},
      {"length 2^64 - 1", LengthBytes(UINT64_MAX) + "{}", "not within"},
      {"length 2^63", LengthBytes(uint64_t{1} << 63) + "{}", "not within"},
      {"not UTF-8", SafetensorsBytes("{\"\xFF\":{}}", 0), "not valid JSON"},
      {"not JSON", SafetensorsBytes("{\"w\" 1}", 0), "not valid JSON"},
      {"text after the object", SafetensorsBytes(good + "x", 8), "not valid JSON"},
      {"second object", SafetensorsBytes(good + "{}", 8), "not valid JSON"},
      {"array on top", SafetensorsBytes("[1,2]", 0), "not a JSON object"},
      {"number on top", SafetensorsBytes("12345", 0), "not a JSON object"},
      {"space before the object", SafetensorsBytes("  " + good, 8), "not a JSON object"},
      {"100,000 arrays deep",
       SafetensorsBytes("{\"w\":" + std::string(100'000, '[') + "}", 0),
       "array"},
      {"100,000 objects deep",
       SafetensorsBytes(Repeated("{\"shape\":", 100'000), 0),
       "an object where none belongs"},
      {"metadata in depth", SafetensorsBytes(R"({"__metadata__":{"a":{}}})", 0), "object"},
      {"metadata of numbers", SafetensorsBytes(R"({"__metadata__":{"a":1}})", 0), "number"},
      {"a million tensors", ManyTensors(1'000'000), "too many tensors"},
      {"tensor twice",
       SafetensorsBytes(R"({"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"w":{}})", 0),
       "the key w comes twice"},
      {"trailing bytes", SafetensorsBytes(good, 9), "1 bytes at its end"},
      {"no tensors, but data", SafetensorsBytes("{}", 1), "belong to no tensor"},
      {"offsets beyond the file", SafetensorsBytes(good, 7), "tensor w: its data reaches beyond"},
      {"control bytes in a name",
       SafetensorsBytes("{\"\\u001b[2J\":3}", 0),
       "tensor \\x1b[2J: a number"},
  };
}

// One tensor's entry.
std::vector<RefusedFile> RefusedEntries() {
  return {
      {"field twice",
       WithEntry(R"({"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]})"),
       "comes twice"},
      {"field missing",
       WithEntry(R"({"dtype":"F32","data_offsets":[0,8]})"),
       "tensor w: dtype, shape and"},
      {"field unknown",
       WithEntry(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8],"stride":[1]})"),
       "stride"},
      {"entry no object", WithEntry("3"), "tensor w: a number"},
      {"entry null", WithEntry("null"), "tensor w: null"},
      {"dtype unknown",
       WithEntry(R"({"dtype":"F31","shape":[2],"data_offsets":[0,8]})"),
       "the dtype F31"},
      {"dtype a number",
       WithEntry(R"({"dtype":3,"shape":[2],"data_offsets":[0,8]})"),
       "tensor w: a number"},
      {"shape a string",
       WithEntry(R"({"dtype":"F32","shape":"2","data_offsets":[0,8]})"),
       "tensor w: a string"},
      {"shape in shape",
       WithEntry(R"({"dtype":"F32","shape":[[2]],"data_offsets":[0,8]})"),
       "tensor w: an array"},
      {"shape negative",
       WithEntry(R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})"),
       "negative"},
      {"shape a fraction",
       WithEntry(R"({"dtype":"F32","shape":[2.0],"data_offsets":[0,8]})"),
       "no integer"},
      {"shape beyond 64 bits",
       WithEntry(R"({"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,8]})"),
       "no integer"},
      {"shape beyond 63 bits",
       WithEntry(R"({"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,8]})"),
       "too large"},
      {"shape overflows",
       WithEntry(R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]})"),
       "overflows"},
      {"shape wraps to the right size",
       WithEntry(R"({"dtype":"F32","shape":[4611686018427387904,2],"data_offsets":[0,0]})"),
       "overflows"},
      {"rank 9",
       WithEntry(R"({"dtype":"F32","shape":[1,1,1,1,1,1,1,1,2],"data_offsets":[0,8]})"),
       "too many"},
      {"offsets of one", WithEntry(R"({"dtype":"F32","shape":[2],"data_offsets":[0]})"), "not two"},
      {"offsets of three",
       WithEntry(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8,8]})"),
       "not two"},
      {"offsets backwards",
       WithEntry(R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})"),
       "ends before"},
      {"offsets of another size",
       WithEntry(R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})"),
       "span 4 bytes"},
      {"overlap", Pair("[0,4]", "[2,6]", 6), "tensor b: its data overlaps"},
      {"same data", Pair("[0,4]", "[0,4]", 4), "overlaps"},
      {"hole", Pair("[0,4]", "[5,9]", 9), "tensor b: there is a hole"},
      {"hole at the start", Pair("[1,5]", "[5,9]", 9), "tensor a: there is a hole"},
  };
}

std::vector<RefusedFile> RefusedFiles() {
  std::vector<RefusedFile> rows = RefusedFraming();
  for (RefusedFile& row : RefusedEntries()) rows.push_back(std::move(row));
  return rows;
}

class SafetensorsHeaderRefusalTest : public ::testing::TestWithParam<RefusedFile> {};

TEST_P(SafetensorsHeaderRefusalTest, HasOneClearError) {
  const auto start = std::chrono::steady_clock::now();
  const auto entries = Parse(GetParam().file);
  const auto seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  ASSERT_FALSE(entries.ok());
  EXPECT_EQ(entries.status().code(), absl::StatusCode::kInvalidArgument);
  const std::string message(entries.status().message());
  EXPECT_THAT(message, HasSubstr(GetParam().message));
  EXPECT_LT(message.size(), 500U);
  EXPECT_EQ(message.find('\n'), std::string::npos);
  EXPECT_LT(seconds, 5.0);  // a bound on the work, loose enough for sanitizers
}

INSTANTIATE_TEST_SUITE_P(Rows, SafetensorsHeaderRefusalTest, ::testing::ValuesIn(RefusedFiles()));

TEST(SafetensorsHeaderTest, EveryCutOfAGoodFileIsRefused) {
  const std::string file =
      SafetensorsBytes(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8);
  ASSERT_TRUE(Parse(file).ok());
  for (size_t length = 0; length < file.size(); ++length)
    EXPECT_FALSE(Parse(file.substr(0, length)).ok()) << length;
}

}  // namespace
}  // namespace phi::shard
