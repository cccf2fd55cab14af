#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "service/text/added_tokens.h"
#include "service/text/bpe.h"
#include "service/text/tokenizer_json.h"
#include "service/text/word_splitter.h"

namespace phi::service {

// Text ⇄ token ids, as Hugging Face tokenizers 0.23.3 gives them for the same `tokenizer.json`
// (byte-level BPE, the CodeGen tokenizer of Phi-1, 1.5 and 2) with `encode_special_tokens = True`:
// `<|endoftext|>` in a prompt is ordinary text and can never end a generation. No token is added at
// either end. Immutable after Load; every const method may be called from any thread.
class Tokenizer {
 public:
  // Bounds one Encode call.
  struct EncodeLimits {
    size_t max_tokens = 0;           // more than that many is an error
    std::stop_token cancelled = {};  // looked at between words; the default never stops
  };

  // Reads a `tokenizer.json`, 64 MiB at most.
  // Errors, one line each: kNotFound or kInvalidArgument if the file cannot be read;
  // kInvalidArgument naming the field if it is malformed or cannot be served identically.
  static absl::StatusOr<Tokenizer> Load(const std::string& path);

  // The same from the file's text.
  static absl::StatusOr<Tokenizer> FromJson(std::string_view json);

  // The ids of `text`; none for the empty text. O(n log n) in bytes, whatever the text.
  // Errors: kInvalidArgument if `text` is not valid UTF-8; kOutOfRange as soon as more than
  // `limits.max_tokens` are certain; kCancelled.
  absl::StatusOr<std::vector<uint32_t>> Encode(std::string_view text,
                                               const EncodeLimits& limits) const;

  // The text of `ids`, special tokens included, bytes that are not UTF-8 as U+FFFD (utf8.h).
  // kInvalidArgument if an id is not below vocab_size().
  absl::StatusOr<std::string> Decode(std::span<const uint32_t> ids) const;

  // The bytes that a token stands for: often not whole characters. `id` < vocab_size(); lives as
  // long as the tokenizer.
  std::string_view TokenBytes(uint32_t id) const;

  // Real ids are 0 … vocab_size() - 1. A checkpoint's head may have more rows: padding.
  uint32_t vocab_size() const { return static_cast<uint32_t>(token_ends_.size()); }

  // The id of `<|endoftext|>`, where the file has it.
  std::optional<uint32_t> eos_id() const { return eos_id_; }

 private:
  friend class EncodeRun;

  Tokenizer(const TokenizerSpec& spec, Bpe bpe, WordSplitter splitter);
  void AddTokenBytes(std::string_view written);

  Bpe bpe_;
  WordSplitter splitter_;
  // Hugging Face looks for added tokens in two passes: `normalized: false` first.
  AddedTokenMatcher literal_tokens_;
  AddedTokenMatcher normalized_tokens_;
  std::string token_bytes_;         // of all tokens, joined in id order
  std::vector<size_t> token_ends_;  // where each one ends in token_bytes_
  size_t longest_token_bytes_ = 0;
  std::optional<uint32_t> eos_id_;
};

}  // namespace phi::service
