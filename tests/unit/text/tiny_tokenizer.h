#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "service/text/byte_level.h"

namespace phi::service {

// A `tokenizer.json` of the served form, small enough to spell out: token id n is byte n, then
// "ab" (256) and "abc" (257), then the added tokens "  " (258), "   " (259) and "<|endoftext|>"
// (260). Tests change a field and see what happens.
inline nlohmann::json TinyTokenizerJson() {
  nlohmann::json vocab = nlohmann::json::object();
  for (int byte = 0; byte < 256; ++byte)
    vocab[ByteLevelCharacter(static_cast<unsigned char>(byte))] = byte;
  vocab["ab"] = 256;
  vocab["abc"] = 257;
  const auto added_token = [](int id, const std::string& content, bool special) {
    return nlohmann::json{{"id", id},
                          {"content", content},
                          {"single_word", false},
                          {"lstrip", false},
                          {"rstrip", false},
                          {"normalized", !special},
                          {"special", special}};
  };
  const nlohmann::json byte_level = {{"type", "ByteLevel"},
                                     {"add_prefix_space", false},
                                     {"trim_offsets", true},
                                     {"use_regex", true}};
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens",
           {added_token(258, "  ", false),
            added_token(259, "   ", false),
            added_token(260, "<|endoftext|>", true)}},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level},
          {"post_processor", byte_level},
          {"decoder", byte_level},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", ""},
            {"end_of_word_suffix", ""},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", false},
            {"vocab", vocab},
            {"merges", nlohmann::json::array({{"a", "b"}, {"ab", "c"}})}}}};
}

}  // namespace phi::service
