#include "tools/make_checkpoint/byte_tokenizer.h"

#include <nlohmann/json.hpp>

namespace phi::tools {
namespace {

// UTF-8 of a code point below 0x800.
std::string Utf8(uint32_t code_point) {
  if (code_point < 0x80) return {static_cast<char>(code_point)};
  return {static_cast<char>(0xC0 | (code_point >> 6)),
          static_cast<char>(0x80 | (code_point & 0x3F))};
}

// GPT-2's writing of bytes (encoder.py, bytes_to_unicode): a printable byte is its own Latin-1
// character, the others are the code points from 256 on, in order.
bool IsOwnCharacter(uint32_t byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

}  // namespace

std::string ByteTokenizerJson() {
  nlohmann::ordered_json vocab = nlohmann::ordered_json::object();
  uint32_t next = 256;
  for (uint32_t byte = 0; byte < 256; ++byte)
    vocab[Utf8(IsOwnCharacter(byte) ? byte : next++)] = byte;

  const nlohmann::ordered_json byte_level = {{"type", "ByteLevel"},
                                             {"add_prefix_space", false},
                                             {"trim_offsets", true},
                                             {"use_regex", true}};
  nlohmann::ordered_json end_of_text = {{"id", 256}, {"content", kEndOfText}};
  for (const char* flag : {"single_word", "lstrip", "rstrip", "normalized"})
    end_of_text[flag] = false;
  end_of_text["special"] = true;
  const nlohmann::ordered_json model = {{"type", "BPE"},
                                        {"dropout", nullptr},
                                        {"unk_token", nullptr},
                                        {"continuing_subword_prefix", ""},
                                        {"end_of_word_suffix", ""},
                                        {"fuse_unk", false},
                                        {"byte_fallback", false},
                                        {"ignore_merges", false},
                                        {"vocab", vocab},
                                        {"merges", nlohmann::ordered_json::array()}};
  const nlohmann::ordered_json tokenizer = {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", nlohmann::ordered_json::array({end_of_text})},
      {"normalizer", nullptr},
      {"pre_tokenizer", byte_level},
      {"post_processor", byte_level},
      {"decoder", byte_level},
      {"model", model}};
  return tokenizer.dump(2) + "\n";
}

std::optional<uint32_t> FindEndOfText(std::string_view tokenizer_json) {
  const auto json =
      nlohmann::json::parse(tokenizer_json.begin(), tokenizer_json.end(), nullptr, false);
  if (!json.is_object() || !json.contains("added_tokens")) return std::nullopt;
  for (const auto& token : json["added_tokens"]) {
    if (!token.is_object() || token.value("content", nlohmann::json()) != kEndOfText) continue;
    const auto id = token.value("id", nlohmann::json());
    if (id.is_number_unsigned()) return id.get<uint32_t>();
  }
  return std::nullopt;
}

}  // namespace phi::tools
