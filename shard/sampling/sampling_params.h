#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"

// How rank 0 draws tokens: a value.
namespace phi::shard {

// Most likely tokens that one row can be asked for.
inline constexpr uint32_t kTopLogprobsMax = 20;
inline constexpr uint32_t kLogitBiasMax = 300;      // biased tokens of one sequence
inline constexpr float kLargestLogitBias = 100.0F;  // either way
inline constexpr float kLargestPenalty = 2.0F;      // of all three; the repetition penalty is > 0

struct LogitBias {
  uint32_t token_id = 0;
  float bias = 0;

  friend bool operator==(const LogitBias&, const LogitBias&) = default;
};

struct SamplingParams {
  float temperature = 0.0F;  // 0 = greedy: the highest logit, the lowest id on a tie
  uint32_t top_k = 0;        // 0 = off
  float top_p = 1.0F;
  float min_p = 0.0F;
  uint64_t seed = 0;
  uint32_t sample_index = 0;  // which of the n samples: draws with (seed, sample_index, position)
  uint32_t num_top_logprobs = 0;  // most likely real tokens to report beside the chosen one
  bool want_logprobs = false;
  bool mask_eos = false;            // before min_new_tokens
  float repetition_penalty = 1.0F;  // over prompt and output
  float frequency_penalty = 0.0F;   // this and the next: over the output
  float presence_penalty = 0.0F;
  std::vector<LogitBias> logit_bias = {};  // each token once

  friend bool operator==(const SamplingParams&, const SamplingParams&) = default;
};

// Whether a draw needs to know the tokens so far.
inline bool HasPenalties(const SamplingParams& params) {
  return params.repetition_penalty != 1.0F || params.frequency_penalty != 0.0F ||
         params.presence_penalty != 0.0F;
}

// INVALID_ARGUMENT with the values for a number that is not finite or out of its range, a token id
// that is not below vocab_size, or a token with two biases.
absl::Status CheckSamplingParams(const SamplingParams& params, uint32_t vocab_size);

}  // namespace phi::shard
