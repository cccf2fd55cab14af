#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace phi::service {

// One entry of `added_tokens`: matched in the text itself, before it is cut into words.
struct AddedToken {
  uint32_t id = 0;
  std::string content;      // valid UTF-8, not empty
  bool special = false;     // never recognised in a prompt: there it is ordinary text
  bool normalized = false;  // matched after all tokens that are not (Hugging Face's two passes)
};

// What a `tokenizer.json` says, once everything that phi-serve could not serve identically to
// Hugging Face tokenizers has been refused.
struct TokenizerSpec {
  // vocab[id] is the token in byte-level writing (byte_level.h). Ids are dense: 0 … size-1.
  std::vector<std::string> vocab;
  // By rank, in byte-level writing. Both halves and their concatenation need not be in vocab yet.
  std::vector<std::pair<std::string, std::string>> merges;
  // In the file's order. An id is either vocab's own for that content or follows vocab densely.
  std::vector<AddedToken> added_tokens;
};

// Reads the text of a `tokenizer.json` (Hugging Face tokenizers 0.23, "version": "1.0") that holds
// byte-level BPE: model BPE, pre_tokenizer and decoder ByteLevel, no normalizer, no post-processor
// that adds tokens, no truncation or padding. Memory is bounded by the size of `json`, never by a
// number in it.
// Errors: kInvalidArgument with one line that names the field: not JSON, a field missing, unknown,
// twice or of the wrong type, ids not dense, or a feature that is not served.
absl::StatusOr<TokenizerSpec> ParseTokenizerJson(std::string_view json);

}  // namespace phi::service
