#include "service/text/tokenizer.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <functional>
#include <system_error>
#include <utility>

#include "absl/strings/str_format.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"
#include "service/text/byte_level.h"
#include "service/text/utf8.h"

namespace phi::service {
namespace {

constexpr uintmax_t kMaxFileBytes = uintmax_t{64} << 20;
constexpr std::string_view kEndOfText = "<|endoftext|>";

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    return absl::NotFoundError(absl::StrFormat("%s does not exist", path));
  }
  const uintmax_t size = std::filesystem::file_size(path, error);
  if (error) return absl::InvalidArgumentError(absl::StrFormat("%s: %s", path, error.message()));
  if (size > kMaxFileBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s has %d bytes, more than 64 MiB", path, size));
  }
  std::string text(size, '\0');
  std::ifstream file(path, std::ios::binary);
  if (!file.read(text.data(), static_cast<std::streamsize>(size))) {
    return absl::InvalidArgumentError(absl::StrFormat("%s cannot be read", path));
  }
  return text;
}

}  // namespace

// One Encode call: the text is cut at added tokens, the rest into words, each word is merged.
class EncodeRun {
 public:
  EncodeRun(const Tokenizer& tokenizer,
            const Tokenizer::EncodeLimits& limits,
            WordSplitter::Scanner scanner)
      : tokenizer_(tokenizer), limits_(limits), scanner_(std::move(scanner)) {}

  absl::StatusOr<std::vector<uint32_t>> Run(std::string_view text) {
    PHI_RETURN_IF_ERROR(EncodePiece(text, 0));
    return std::move(ids_);
  }

 private:
  // A direct-mapped memory of words seen in this text: code repeats itself. The ids of a word are
  // those at `ids_begin` of ids_, so an entry owns nothing.
  struct CachedWord {
    std::string_view word;
    size_t ids_begin = 0;
    size_t ids_size = 0;
  };
  static constexpr size_t kCachedWords = 1024;
  static constexpr size_t kLongestCachedWord = 64;

  absl::Status CheckLimits() const {
    if (ids_.size() > limits_.max_tokens) return TooManyTokens(limits_.max_tokens);
    if (limits_.cancelled.stop_requested())
      return absl::CancelledError("tokenization was cancelled");
    return absl::OkStatus();
  }

  // Pass 0 looks for literal added tokens, pass 1 for normalized ones, pass 2 for words.
  absl::Status EncodePiece(std::string_view text, int pass) {
    if (text.empty()) return absl::OkStatus();
    if (pass == 2) return EncodeWords(text);
    const AddedTokenMatcher& matcher =
        pass == 0 ? tokenizer_.literal_tokens_ : tokenizer_.normalized_tokens_;
    size_t begin = 0;
    size_t from = 0;
    while (const auto match = matcher.Find(text, from)) {
      from = match->end;
      // Ordinary text; yet it hides other added tokens within it, as in Hugging Face.
      if (match->special) continue;
      PHI_RETURN_IF_ERROR(EncodePiece(text.substr(begin, match->begin - begin), pass + 1));
      ids_.push_back(match->id);
      PHI_RETURN_IF_ERROR(CheckLimits());
      begin = match->end;
    }
    return EncodePiece(text.substr(begin), pass + 1);
  }

  absl::Status EncodeWords(std::string_view text) {
    scanner_.Start(text);
    while (true) {
      PHI_ASSIGN_OR_RETURN(const std::string_view word, scanner_.Next());
      if (word.empty()) return absl::OkStatus();
      EncodeWord(word);
      PHI_RETURN_IF_ERROR(CheckLimits());
    }
  }

  void EncodeWord(std::string_view word) {
    if (word.size() > kLongestCachedWord) return tokenizer_.bpe_.Encode(word, scratch_, ids_);
    CachedWord& cached = cache_[std::hash<std::string_view>{}(word) % kCachedWords];
    if (cached.word == word) {
      for (size_t i = 0; i < cached.ids_size; ++i) ids_.push_back(ids_[cached.ids_begin + i]);
      return;
    }
    const size_t ids_begin = ids_.size();
    tokenizer_.bpe_.Encode(word, scratch_, ids_);
    cached = {.word = word, .ids_begin = ids_begin, .ids_size = ids_.size() - ids_begin};
  }

 public:
  static absl::Status TooManyTokens(size_t max_tokens) {
    return absl::OutOfRangeError(absl::StrFormat("the text has more than %d tokens", max_tokens));
  }

 private:
  const Tokenizer& tokenizer_;
  const Tokenizer::EncodeLimits& limits_;
  WordSplitter::Scanner scanner_;
  Bpe::Scratch scratch_;
  std::array<CachedWord, kCachedWords> cache_;
  std::vector<uint32_t> ids_;
};

absl::StatusOr<Tokenizer> Tokenizer::Load(const std::string& path) {
  PHI_ASSIGN_OR_RETURN(const std::string json, ReadFile(path));
  absl::StatusOr<Tokenizer> tokenizer = FromJson(json);
  if (tokenizer.ok()) return tokenizer;
  return absl::Status(tokenizer.status().code(),
                      absl::StrFormat("%s: %s", path, tokenizer.status().message()));
}

absl::StatusOr<Tokenizer> Tokenizer::FromJson(std::string_view json) {
  PHI_ASSIGN_OR_RETURN(const TokenizerSpec spec, ParseTokenizerJson(json));
  PHI_ASSIGN_OR_RETURN(Bpe bpe, Bpe::Create(spec));
  PHI_ASSIGN_OR_RETURN(WordSplitter splitter, WordSplitter::Create());
  return Tokenizer(spec, std::move(bpe), std::move(splitter));
}

Tokenizer::Tokenizer(const TokenizerSpec& spec, Bpe bpe, WordSplitter splitter)
    : bpe_(std::move(bpe)),
      splitter_(std::move(splitter)),
      literal_tokens_(spec.added_tokens, false),
      normalized_tokens_(spec.added_tokens, true) {
  for (size_t id = 0; id < spec.vocab.size(); ++id) {
    if (spec.vocab[id] == kEndOfText) eos_id_ = static_cast<uint32_t>(id);
    AddTokenBytes(spec.vocab[id]);
  }
  for (const AddedToken& token : spec.added_tokens) {
    if (token.content == kEndOfText) eos_id_ = token.id;
    if (token.id == vocab_size()) AddTokenBytes(token.content);
  }
}

void Tokenizer::AddTokenBytes(std::string_view written) {
  const std::string bytes = ByteLevelTokenBytes(written);
  token_bytes_ += bytes;
  token_ends_.push_back(token_bytes_.size());
  longest_token_bytes_ = std::max(longest_token_bytes_, bytes.size());
}

absl::StatusOr<std::vector<uint32_t>> Tokenizer::Encode(std::string_view text,
                                                        const EncodeLimits& limits) const {
  // No token stands for more bytes, so this text cannot fit; no need to look at it.
  if (text.size() / longest_token_bytes_ > limits.max_tokens) {
    return EncodeRun::TooManyTokens(limits.max_tokens);
  }
  if (!IsValidUtf8(text)) return absl::InvalidArgumentError("the text is not valid UTF-8");
  PHI_ASSIGN_OR_RETURN(WordSplitter::Scanner scanner, WordSplitter::Scanner::Create(splitter_));
  return EncodeRun(*this, limits, std::move(scanner)).Run(text);
}

absl::StatusOr<std::string> Tokenizer::Decode(std::span<const uint32_t> ids) const {
  std::string text;
  Utf8LossyDecoder decoder;
  for (const uint32_t id : ids) {
    if (id >= vocab_size()) {
      return absl::InvalidArgumentError(
          absl::StrFormat("token id %d is not below the vocabulary's %d", id, vocab_size()));
    }
    decoder.Append(TokenBytes(id), text);
  }
  decoder.Finish(text);
  return text;
}

std::string_view Tokenizer::TokenBytes(uint32_t id) const {
  PHI_CHECK(id < vocab_size(), "token id %u of %u", id, vocab_size());
  const size_t begin = id == 0 ? 0 : token_ends_[id - 1];
  return std::string_view(token_bytes_).substr(begin, token_ends_[id] - begin);
}

}  // namespace phi::service
