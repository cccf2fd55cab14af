#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "shard/sampling/sampling_params.h"

namespace phi::shard {

// Penalties and biases on one row of logits, in place, and the way back: a token is touched when
// it occurs in the history or has a bias, so that both ways cost O(history + biases) whatever the
// vocabulary.
//
// In this order, each step rounded to float32 and kept finite:
//   repetition  once for each token of the history: logit / penalty where it is positive, logit *
//               penalty elsewhere. Source: Hugging Face logits_process.py,
//               RepetitionPenaltyLogitsProcessor; Keskar et al., "CTRL" (2019).
//   frequency   logit -= penalty * (times in the output), then presence: logit -= penalty for a
//               token in the output. Source: OpenAI's API reference, "Frequency and presence
//               penalties".
//   bias        logit += bias.
//
// Memory is taken in the constructor (I6). Threads: one caller.
class TokenAdjuster {
 public:
  explicit TokenAdjuster(uint32_t vocab_size);

  // logits [vocab_size], finite; params as CheckSamplingParams lets them pass; ids of `history` are
  // below vocab_size, and the first num_prompt_tokens of them are the prompt.
  void Adjust(const SamplingParams& params,
              std::span<const uint32_t> history,
              uint32_t num_prompt_tokens,
              std::span<float> logits);
  // Puts back the logits that the last Adjust changed.
  void Restore(std::span<float> logits);

 private:
  struct Touched {
    uint32_t token_id = 0;
    uint32_t output_count = 0;
    float logit = 0;  // before
  };

  // The entry of a token, made where there is none.
  Touched& Touch(uint32_t token_id, std::span<const float> logits);

  std::vector<uint32_t> entry_of_;  // [vocab_size] 1 + the token's place in touched_, or 0
  std::vector<Touched> touched_;
};

}  // namespace phi::shard
