#include "service/text/text_stream.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "kernels/base/check.h"

namespace phi::service {
namespace {

// Bytes of the whole UTF-8 character that begins with `lead`.
size_t CharacterBytes(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  if (byte < 0x80) return 1;
  if (byte < 0xE0) return 2;
  return byte < 0xF0 ? 3 : 4;
}

}  // namespace

TextStream::TextStream(const Tokenizer& tokenizer, StopRules rules, std::string_view prompt)
    : tokenizer_(tokenizer),
      rules_(std::move(rules)),
      string_matcher_(rules_.strings),
      code_matcher_(rules_.conditions, prompt) {}

absl::StatusOr<TextDelta> TextStream::Append(uint32_t token_id) {
  if (ended_) return absl::FailedPreconditionError("the text has ended");
  if (token_id >= tokenizer_.vocab_size()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "token id %d is not below the vocabulary's %d", token_id, tokenizer_.vocab_size()));
  }
  ++generated_tokens_;
  const size_t before = decoded_bytes();
  decoder_.Append(tokenizer_.TokenBytes(token_id), held_text_);
  NoteTokenEnds(before, true);
  if (const auto hit = FindStop(std::string_view(held_text_).substr(before - released_bytes_))) {
    TextDelta delta = End(rules_.include_stop ? hit->span.end : hit->span.begin);
    delta.stop = hit->stop;
    return delta;
  }
  const size_t held = std::max(string_matcher_.held_bytes(), code_matcher_.held_bytes());
  return Release(decoded_bytes() - held);
}

TextDelta TextStream::Finish() {
  if (ended_) return {};
  const size_t before = decoded_bytes();
  decoder_.Finish(held_text_);
  NoteTokenEnds(before, false);
  const auto hit = FindStop(std::string_view(held_text_).substr(before - released_bytes_));
  if (!hit) return End(decoded_bytes());
  TextDelta delta = End(rules_.include_stop ? hit->span.end : hit->span.begin);
  delta.stop = hit->stop;
  return delta;
}

// The first character decoded after a token that ended within one is that character, or the U+FFFD
// that took its place.
void TextStream::NoteTokenEnds(size_t decoded_before, bool has_new_token) {
  const std::string_view decoded =
      std::string_view(held_text_).substr(decoded_before - released_bytes_);
  if (!decoded.empty()) {
    const size_t first_end = decoded_before + CharacterBytes(decoded.front());
    token_ends_.insert(token_ends_.end(), open_tokens_, first_end);
    open_tokens_ = 0;
  }
  if (!has_new_token) return;
  if (decoder_.has_open_character()) {
    ++open_tokens_;
  } else {
    token_ends_.push_back(decoded_bytes());
  }
}

std::optional<TextStream::Hit> TextStream::FindStop(std::string_view decoded) {
  for (const char byte : decoded) {
    auto hit = MatchByte(byte);
    if (hit && generated_tokens_ > rules_.min_new_tokens) return hit;
  }
  return std::nullopt;
}

std::optional<TextStream::Hit> TextStream::MatchByte(char byte) {
  const auto string_match = string_matcher_.Append(byte);
  const auto code_match = code_matcher_.Append(byte);
  if (string_match && (!code_match || string_match->span.begin <= code_match->span.begin)) {
    return Hit{.stop = rules_.strings[string_match->stop_index], .span = string_match->span};
  }
  if (code_match) return Hit{.stop = code_match->condition, .span = code_match->span};
  return std::nullopt;
}

TextDelta TextStream::Release(size_t end) {
  PHI_CHECK(end >= released_bytes_, "text of %zu bytes cut at %zu", released_bytes_, end);
  TextDelta delta;
  delta.text = held_text_.substr(0, end - released_bytes_);
  held_text_.erase(0, delta.text.size());
  released_bytes_ = end;
  while (!token_ends_.empty() && token_ends_.front() <= end) {
    token_ends_.pop_front();
    ++delta.tokens;
  }
  return delta;
}

TextDelta TextStream::End(size_t end) {
  ended_ = true;
  TextDelta delta = Release(end);
  delta.tokens += token_ends_.size() + open_tokens_;
  return delta;
}

}  // namespace phi::service
