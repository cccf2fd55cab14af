#pragma once

#include <memory>
#include <string_view>

#include "absl/status/statusor.h"

// PCRE2's own opaque types, so that its macro-laden header stays in word_splitter.cc.
struct pcre2_real_code_8;
struct pcre2_real_match_data_8;

namespace phi::service {

// Cuts text into the words that byte-level BPE merges within, by GPT-2's regular expression:
//
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//
// Source: OpenAI GPT-2 encoder.py; byte_level.rs of Hugging Face tokenizers, whose Unicode version
// it follows (unicode_differences.h). Words cover the text without a gap. Linear in the text: each
// repeat is either possessive or gives back one character. Immutable after Create and safe to share
// between threads; each thread uses its own Scanner.
class WordSplitter {
 public:
  // kInternal if PCRE2 refuses the expression or has no memory.
  static absl::StatusOr<WordSplitter> Create();

  // Walks the words of one text after another. The splitter and each text must outlive the use.
  class Scanner {
   public:
    // kResourceExhausted if there is no memory for PCRE2's match data.
    static absl::StatusOr<Scanner> Create(const WordSplitter& splitter);

    // `text` must be valid UTF-8: PCRE2 is told not to look.
    void Start(std::string_view text);

    // The next word; empty at the end of the text. kInternal if PCRE2 fails.
    absl::StatusOr<std::string_view> Next();

   private:
    struct MatchDataDeleter {
      void operator()(pcre2_real_match_data_8* match_data) const noexcept;
    };

    const pcre2_real_code_8* code_ = nullptr;
    std::unique_ptr<pcre2_real_match_data_8, MatchDataDeleter> match_data_;
    std::string_view rest_;
  };

 private:
  struct CodeDeleter {
    void operator()(pcre2_real_code_8* code) const noexcept;
  };

  std::unique_ptr<pcre2_real_code_8, CodeDeleter> code_;
};

}  // namespace phi::service
