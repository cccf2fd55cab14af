#include "service/text/word_splitter.h"

#include <string>

#include "absl/strings/str_format.h"
#include "service/text/unicode_differences.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace phi::service {
namespace {

// Unicode's White_Space without U+180E, which PCRE2's own \s still counts.
constexpr std::string_view kSpaces = R"(\x09-\x0D\x85\p{Z})";

// The inside of a character class: PCRE2's property and what Hugging Face adds to it.
std::string ClassMembers(std::string_view property, UnicodeClass unicode_class) {
  std::string members(property);
  for (const UnicodeDifference& difference : kUnicodeDifferences) {
    if (difference.hugging_face != unicode_class) continue;
    members += absl::StrFormat("\\x{%X}-\\x{%X}", difference.first, difference.last);
  }
  return members;
}

std::string WordPattern() {
  const std::string letters = ClassMembers(R"(\p{L})", UnicodeClass::kLetter);
  const std::string numbers = ClassMembers(R"(\p{N})", UnicodeClass::kNumber);
  return absl::StrFormat(
      "'s|'t|'re|'ve|'m|'ll|'d| ?[%s]+| ?[%s]+| ?[^%s%s%s]+|[%s]+(?![^%s])|[%s]+",
      letters,
      numbers,
      kSpaces,
      letters,
      numbers,
      kSpaces,
      kSpaces,
      kSpaces);
}

}  // namespace

void WordSplitter::CodeDeleter::operator()(pcre2_real_code_8* code) const noexcept {
  pcre2_code_free(code);
}

void WordSplitter::Scanner::MatchDataDeleter::operator()(
    pcre2_real_match_data_8* match_data) const noexcept {
  pcre2_match_data_free(match_data);
}

absl::StatusOr<WordSplitter> WordSplitter::Create() {
  const std::string pattern = WordPattern();
  int error = 0;
  PCRE2_SIZE error_offset = 0;
  WordSplitter splitter;
  splitter.code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()),
                                     pattern.size(),
                                     PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED,
                                     &error,
                                     &error_offset,
                                     nullptr));
  if (splitter.code_ == nullptr) {
    return absl::InternalError(
        absl::StrFormat("PCRE2 error %d at %d of the word pattern", error, error_offset));
  }
  // Where the machine forbids writable code PCRE2 interprets instead: slower, the same words.
  pcre2_jit_compile(splitter.code_.get(), PCRE2_JIT_COMPLETE);
  return splitter;
}

absl::StatusOr<WordSplitter::Scanner> WordSplitter::Scanner::Create(const WordSplitter& splitter) {
  Scanner scanner;
  scanner.code_ = splitter.code_.get();
  scanner.match_data_.reset(pcre2_match_data_create(1, nullptr));
  if (scanner.match_data_ == nullptr) {
    return absl::ResourceExhaustedError("no memory for PCRE2 match data");
  }
  return scanner;
}

void WordSplitter::Scanner::Start(std::string_view text) { rest_ = text; }

absl::StatusOr<std::string_view> WordSplitter::Scanner::Next() {
  if (rest_.empty()) return std::string_view();
  const int result = pcre2_match(code_,
                                 reinterpret_cast<PCRE2_SPTR>(rest_.data()),
                                 rest_.size(),
                                 0,
                                 PCRE2_NO_UTF_CHECK,
                                 match_data_.get(),
                                 nullptr);
  if (result < 1) return absl::InternalError(absl::StrFormat("PCRE2 match error %d", result));
  const size_t size = pcre2_get_ovector_pointer(match_data_.get())[1];
  const std::string_view word = rest_.substr(0, size);
  rest_.remove_prefix(size);
  return word;
}

}  // namespace phi::service
