#include "service/text/tokenizer_json.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/text/tiny_tokenizer.h"

namespace phi::service {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;
using testing::Not;

std::string Message(std::string_view json) {
  return std::string(ParseTokenizerJson(json).status().message());
}

TEST(ParseTokenizerJson, ReadsTheServedForm) {
  const auto spec = ParseTokenizerJson(TinyTokenizerJson().dump());
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->vocab.size(), 258U);
  EXPECT_EQ(spec->vocab[257], "abc");
  ASSERT_EQ(spec->merges.size(), 2U);
  EXPECT_EQ(spec->merges[1], std::pair(std::string("ab"), std::string("c")));
  ASSERT_EQ(spec->added_tokens.size(), 3U);
  EXPECT_EQ(spec->added_tokens[1].content, "   ");
  EXPECT_TRUE(spec->added_tokens[2].special);
}

TEST(ParseTokenizerJson, ReadsMergesAsStringsToo) {
  Json json = TinyTokenizerJson();
  json["model"]["merges"] = {"#version: 0.2", "a b", "ab c"};
  const auto spec = ParseTokenizerJson(json.dump());
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->merges, ParseTokenizerJson(TinyTokenizerJson().dump())->merges);
}

struct Change {
  const char* pointer;  // JSON pointer to what is changed
  Json value;
  const char* named;  // what the error must name
};

TEST(ParseTokenizerJson, RefusesByNameWhatItCannotServeIdentically) {
  const std::vector<Change> changes = {
      {"/version", "2.0", "version"},
      {"/truncation", {{"max_length", 5}}, "truncation"},
      {"/padding", {{"pad_id", 0}}, "padding"},
      {"/normalizer", {{"type", "NFC"}}, "normalizer"},
      {"/pre_tokenizer", nullptr, "pre_tokenizer"},
      {"/pre_tokenizer/type", "Whitespace", "pre_tokenizer.type"},
      {"/pre_tokenizer/use_regex", false, "pre_tokenizer.use_regex"},
      {"/pre_tokenizer/add_prefix_space", true, "pre_tokenizer.add_prefix_space"},
      {"/post_processor/type", "TemplateProcessing", "post_processor.type"},
      {"/decoder/type", "WordPiece", "decoder.type"},
      {"/decoder", nullptr, "decoder"},
      {"/surprise", 1, "surprise"},
      {"/model", Json::array(), "model"},
      {"/model/type", "Unigram", "model.type"},
      {"/model/dropout", 0.1, "model.dropout"},
      {"/model/byte_fallback", true, "model.byte_fallback"},
      {"/model/ignore_merges", true, "model.ignore_merges"},
      {"/model/continuing_subword_prefix", "##", "model.continuing_subword_prefix"},
      {"/model/end_of_word_suffix", "</w>", "model.end_of_word_suffix"},
      {"/model/surprise", 1, "model.surprise"},
      {"/model/two\nlines", 1, "model.two\\nlines"},
      {"/model/vocab", Json::object(), "model.vocab"},
      {"/model/vocab", 5, "model.vocab"},
      {"/model/vocab/abc", 4294967295U, "4294967295"},
      {"/model/vocab/abc", 258, "258"},
      {"/model/vocab/abc", 0, "twice"},
      {"/model/vocab/abc", -1, "model.vocab"},
      {"/model/vocab/abc", 1.5, "model.vocab"},
      {"/model/vocab/abc", "257", "model.vocab"},
      {"/model/vocab/abc", Json::array(), "model.vocab"},
      {"/model/merges", nullptr, "model.merges"},
      {"/model/merges/1", {"ab"}, "model.merges[1]"},
      {"/model/merges/1", {"a", "b", "c"}, "model.merges[1]"},
      {"/model/merges/1", {"ab", 1}, "model.merges[1]"},
      {"/model/merges/1", "abc", "model.merges[1]"},
      {"/model/merges/1", "a b c", "model.merges[1]"},
      {"/added_tokens", 1, "added_tokens"},
      {"/added_tokens/0", 1, "added_tokens[0]"},
      {"/added_tokens/1/id", 300, "added_tokens[1]"},
      {"/added_tokens/1/id", 18446744073709551615U, "added_tokens[1].id"},
      {"/added_tokens/1/content", "", "added_tokens[1].content"},
      {"/added_tokens/1/content", "  ", "added_tokens[1]"},
      {"/added_tokens/1/lstrip", true, "added_tokens[1].lstrip"},
      {"/added_tokens/1/rstrip", true, "added_tokens[1].rstrip"},
      {"/added_tokens/1/single_word", true, "added_tokens[1].single_word"},
      {"/added_tokens/1/special", "no", "added_tokens[1].special"},
      {"/added_tokens/1/surprise", 1, "added_tokens[1].surprise"},
  };
  for (const Change& change : changes) {
    Json json = TinyTokenizerJson();
    json[Json::json_pointer(change.pointer)] = change.value;
    const auto spec = ParseTokenizerJson(json.dump());
    EXPECT_EQ(spec.status().code(), absl::StatusCode::kInvalidArgument) << change.pointer;
    EXPECT_THAT(std::string(spec.status().message()), HasSubstr(change.named)) << change.pointer;
    EXPECT_THAT(std::string(spec.status().message()), Not(HasSubstr("\n")));
  }
}

TEST(ParseTokenizerJson, RefusesEveryMissingPart) {
  for (const char* pointer : {"/pre_tokenizer",
                              "/pre_tokenizer/add_prefix_space",
                              "/decoder",
                              "/model",
                              "/model/vocab",
                              "/model/merges",
                              "/added_tokens/0/id",
                              "/added_tokens/0/content",
                              "/added_tokens/0/normalized"}) {
    const Json::json_pointer path(pointer);
    Json json = TinyTokenizerJson();
    json[path.parent_pointer()].erase(path.back());
    EXPECT_THAT(Message(json.dump()), HasSubstr(path.back())) << pointer;
  }
}

TEST(ParseTokenizerJson, RefusesEveryTruncation) {
  const std::string whole = TinyTokenizerJson().dump();
  for (size_t size = 0; size < whole.size(); ++size) {
    ASSERT_THAT(Message(whole.substr(0, size)), HasSubstr("not valid JSON at byte")) << size;
  }
}

TEST(ParseTokenizerJson, RefusesKeysAndTablesThatComeTwice) {
  EXPECT_THAT(Message(R"({"version": "1.0", "version": "1.0"})"), HasSubstr("twice"));
  EXPECT_THAT(Message(R"({"model": {"vocab": {}, "vocab": {}}})"), HasSubstr("model.vocab"));
  EXPECT_THAT(Message(R"({"model": {"merges": [], "merges": []}})"), HasSubstr("model.merges"));
  std::string json = TinyTokenizerJson().dump();
  json.replace(json.find("\"abc\":257"), 9, "\"ab\":257");
  EXPECT_THAT(Message(json), HasSubstr("one token under ids 256 and 257"));
}

TEST(ParseTokenizerJson, RefusesWhatIsNoObjectOrTooDeep) {
  EXPECT_THAT(Message("[]"), HasSubstr("not an object"));
  EXPECT_THAT(Message("7"), HasSubstr("not an object"));
  EXPECT_THAT(Message(std::string(1000000, '[')), HasSubstr("nested too deeply"));
  EXPECT_THAT(Message("\"\xFF\""), HasSubstr("not valid JSON"));
  EXPECT_THAT(Message("{\"version\": 1e999999}"), HasSubstr("not valid JSON"));
}

}  // namespace
}  // namespace phi::service
