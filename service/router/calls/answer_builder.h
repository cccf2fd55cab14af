#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string_view>

#include "absl/status/status.h"
#include "phi/v1/generation.pb.h"
#include "phi/worker/v1/worker.pb.h"
#include "service/api/generation_parameters.h"
#include "service/text/text_stream.h"
#include "service/text/tokenizer.h"

namespace phi::service {

// Turns the tokens of one sequence into what its caller sees. Pure: the same tokens give the same
// joined answer, however they are spread over messages, which is why a unary answer is the joined
// stream. Not thread-safe.
//
// Every token that was generated is in `token_ids`, also one that ended the sequence or was cut off
// with its text; ids and log-probabilities come with the message that carries their token's last
// byte, and at the end with the last one.
class AnswerBuilder {
 public:
  // `tokenizer` outlives it. `prompt`: the prompt's text, for stop conditions; may be empty where
  // there are none.
  AnswerBuilder(const Tokenizer& tokenizer,
                const GenerationParameters& parameters,
                std::string_view prompt);

  // Adds what `message` brings to `answer`, behind what is there already. Sets its `finish`, and
  // ended(), when the sequence is over: the worker said so or a stop was found; what follows is
  // ignored. INTERNAL for a token or a reason that is none.
  absl::Status Add(const phi::worker::v1::GenerateResponse& message,
                   phi::v1::GenerateStreamResponse& answer);

  // Ends the sequence here: no more tokens come. With `reason`, unless what was held back completes
  // a stop.
  void Finish(phi::v1::FinishReason reason, phi::v1::GenerateStreamResponse& answer);

  bool ended() const { return ended_; }
  uint32_t generated_tokens() const { return generated_tokens_; }

 private:
  absl::Status AddToken(const phi::worker::v1::GeneratedToken& token,
                        phi::v1::GenerateStreamResponse& answer);
  bool EndsSequence(uint32_t token_id) const;
  void AddDelta(TextDelta delta, phi::v1::GenerateStreamResponse& answer);
  void AddHeldToken(phi::v1::GenerateStreamResponse& answer);

  const Tokenizer& tokenizer_;
  const GenerationParameters parameters_;
  TextStream text_;
  std::deque<phi::worker::v1::GeneratedToken> held_tokens_;  // generated, not in an answer yet
  std::optional<uint32_t> stop_token_;
  uint32_t generated_tokens_ = 0;
  bool ended_ = false;
};

}  // namespace phi::service
