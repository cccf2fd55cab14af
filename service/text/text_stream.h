#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "service/text/code_stops.h"
#include "service/text/stop_strings.h"
#include "service/text/tokenizer.h"
#include "service/text/utf8.h"

namespace phi::service {

// When generated text ends, apart from the ends that need no text (EOS, stop ids, lengths, time).
struct StopRules {
  std::vector<std::string> strings = {};  // none empty, all valid UTF-8
  std::vector<StopCondition> conditions = {};
  bool include_stop = false;    // keep the matched stop in the text
  uint32_t min_new_tokens = 0;  // stops that one of the first so many tokens completes are ignored
};

// What one more token adds to the text that a caller may see.
struct TextDelta {
  std::string text;  // whole UTF-8 characters
  // How many of the oldest tokens not yet counted here have their last byte in the text up to here:
  // their ids and log-probabilities travel with this delta. At the end, all the rest.
  size_t tokens = 0;
  // Set once, by the token that completed a stop: its text or its condition. The text has ended.
  std::optional<std::variant<std::string, StopCondition>> stop;
};

// The text of one generated sequence as it grows: detokenizes, holds back what may still change,
// cuts at stops. Not thread-safe.
//
// Joined deltas equal Tokenizer::Decode of all tokens, cut at the stop, however the bytes are
// spread over tokens. Text is held back only while it is an unfinished character or may still
// become part of a stop. Among stops the one that is complete first wins, so that a stop is final
// as soon as it is seen; of those that the same byte completes, the one that begins first, a string
// before a condition. The text ends before the stop, or after it with include_stop; what follows in
// the same token is dropped.
class TextStream {
 public:
  // `tokenizer` must outlive the stream. `prompt` is for stop conditions, which compare with its
  // last lines, and is only read here; it never becomes part of the text.
  TextStream(const Tokenizer& tokenizer, StopRules rules, std::string_view prompt);

  // Takes the next generated token. A token that ends the sequence without being part of its text
  // (EOS, a stop id) is not appended.
  // Errors: kInvalidArgument if `token_id` is no token; kFailedPrecondition after the end.
  absl::StatusOr<TextDelta> Append(uint32_t token_id);

  // No more tokens: what was held back, an unfinished character as U+FFFD, which may itself
  // complete a stop. Empty after the end.
  TextDelta Finish();

  // A stop was found or Finish was called.
  bool ended() const { return ended_; }

  uint32_t generated_tokens() const { return generated_tokens_; }

 private:
  struct Hit {
    std::variant<std::string, StopCondition> stop;
    TextSpan span;
  };

  void NoteTokenEnds(size_t decoded_before, bool has_new_token);
  std::optional<Hit> FindStop(std::string_view decoded);
  std::optional<Hit> MatchByte(char byte);
  TextDelta Release(size_t end);
  TextDelta End(size_t end);
  size_t decoded_bytes() const { return released_bytes_ + held_text_.size(); }

  const Tokenizer& tokenizer_;
  const StopRules rules_;
  StopStringMatcher string_matcher_;
  CodeStopMatcher code_matcher_;
  Utf8LossyDecoder decoder_;
  std::string held_text_;      // decoded and not released
  size_t released_bytes_ = 0;  // given to the caller
  // Where the tokens not yet counted in a delta end in the decoded text; the last `open_tokens_`
  // of all end within the decoder's open character and are not in here yet.
  std::deque<size_t> token_ends_;
  size_t open_tokens_ = 0;
  uint32_t generated_tokens_ = 0;
  bool ended_ = false;
};

}  // namespace phi::service
