#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "shard/sampled_token.h"
#include "shard/step_plan.h"

namespace phi::shard {

// Draws tokens from logits, on rank 0 and on the host.
//
// Order on the logits: masks (padding rows always, EOS before min_new_tokens), temperature, top_k,
// top_p, min_p. What is left is walked in order of (logit, highest first; id, lowest first) to the
// point that a uniform number of (seed, sample_index, position) falls on; all sums are double and
// made in that order, so a draw is a pure function of its logits and parameters (I1).
//
// Memory is taken in the constructor (I6), but for the `top` list of an answer. Threads: one
// caller.
class Sampler {
 public:
  // vocab_size rows of the head, of which the first num_real_tokens may be drawn (1 <=
  // num_real_tokens <= vocab_size).
  Sampler(uint32_t vocab_size, uint32_t num_real_tokens, uint32_t eos_token_id);

  // The token for `position`, which is the one after the row that gave the logits. logits
  // [vocab_size]; params within the ranges of ValidateStepPlan. sequence_index of the answer is
  // left 0.
  SampledToken Sample(std::span<const float> logits,
                      uint32_t position,
                      const SamplingParams& params);

 private:
  uint32_t Greedy(std::span<const float> logits, const SamplingParams& params) const;
  uint32_t Draw(std::span<const float> logits, uint32_t position, const SamplingParams& params);
  bool Masked(uint32_t id, const SamplingParams& params) const;
  void AddLogprobs(std::span<const float> logits,
                   const SamplingParams& params,
                   SampledToken& token) const;
  // The `count` real tokens of the highest logits, highest first, with their logits.
  void TakeTop(std::span<const float> logits, size_t count, std::vector<TokenLogprob>& top) const;
  // Fills candidates_ with the tokens that may be drawn, highest logit first.
  void SortCandidates(std::span<const float> logits, const SamplingParams& params);

  uint32_t num_real_tokens_;
  uint32_t eos_token_id_;
  // A candidate is its logit's rank-preserving bits, inverted, above its id: ascending is the order
  // of a draw.
  std::vector<uint64_t> candidates_;
  std::vector<uint64_t> sort_scratch_;
  std::vector<double>
      weights_;  // exp((logit - highest) / temperature), in the order of candidates_
};

}  // namespace phi::shard
