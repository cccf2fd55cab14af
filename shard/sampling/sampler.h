#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "shard/sampling/sampled_token.h"
#include "shard/sampling/sampling_params.h"
#include "shard/sampling/token_adjuster.h"

namespace phi::shard {

// One row of logits, and where its sequence stands.
struct SamplerRow {
  // [vocab_size] in host memory. Changed and put back within a call.
  std::span<float> logits;
  uint32_t position = 0;  // of the tokens that are drawn: the one after the row's
  // PlannedSequence's: needed where HasPenalties.
  std::span<const uint32_t> history = {};
  uint32_t num_prompt_tokens = 0;
};

// How many of a row's highest logits decide a draw with `params`, which then is the same from these
// candidates as from the row; 0: all of them, or more than kernels::kMaxCandidates.
uint32_t CandidatesNeeded(const SamplingParams& params);

// Draws tokens from logits, on rank 0 and on the host.
//
// Order on the logits: penalties and biases (TokenAdjuster), masks (padding rows always, EOS before
// min_new_tokens), temperature, top_k, top_p, min_p. What is left is walked in order of (logit,
// highest first; id, lowest first) to the point that a uniform number of (seed, sample_index,
// position) falls on; all sums are double and made in that order, so a draw is a pure function of
// its row and parameters (I1). Log-probabilities are of the logits as they came.
//
// Memory is taken in the constructor (I6), but for the answer. Threads: one caller.
class Sampler {
 public:
  // vocab_size rows of the head, of which the first num_real_tokens may be drawn (1 <=
  // num_real_tokens <= vocab_size).
  Sampler(uint32_t vocab_size, uint32_t num_real_tokens, uint32_t eos_token_id);

  // num_draws tokens (>= 1) from one row, the i-th as a call for it alone with sample_index + i
  // would draw it, at the cost of one. params as CheckSamplingParams lets them pass. sequence_index
  // is left 0.
  std::vector<SampledToken> Sample(const SamplerRow& row,
                                   const SamplingParams& params,
                                   uint32_t num_draws);

  // The same tokens, from the row's first CandidatesNeeded(params) > 0 candidates or more: real
  // tokens in their order, at least one. Where the first one's logit is no number, the row was not
  // finite.
  std::vector<SampledToken> SampleCandidates(std::span<const kernels::Candidate> row,
                                             uint32_t position,
                                             const SamplingParams& params,
                                             uint32_t num_draws);

 private:
  uint32_t Greedy(std::span<const float> logits, const SamplingParams& params) const;
  // Draws each of `tokens` from candidates_.
  void DrawAll(const SamplingParams& params, uint32_t position, std::span<SampledToken> tokens);
  // Fills weights_ with those of the first of candidates_, which may be drawn; returns their sum.
  double KeepCandidates(const SamplingParams& params);
  // The kept token that `uniform` of [0, 1) falls on.
  uint32_t Draw(double mass, double uniform) const;
  bool Masked(uint32_t id, const SamplingParams& params) const;
  void AddLogprobs(std::span<const float> logits,
                   const SamplingParams& params,
                   std::span<SampledToken> tokens) const;
  // The `count` real tokens of the highest logits, highest first, with their logits.
  void TakeTop(std::span<const float> logits, size_t count, std::vector<TokenLogprob>& top) const;
  // Fills candidates_ with the tokens that are not masked, highest logit first.
  void SortCandidates(std::span<const float> logits, const SamplingParams& params);

  uint32_t num_real_tokens_;
  uint32_t eos_token_id_;
  TokenAdjuster adjuster_;
  // A candidate is its logit's rank-preserving bits, inverted, above its id: ascending is the order
  // of a draw.
  std::vector<uint64_t> candidates_;
  std::vector<uint64_t> sort_scratch_;
  std::vector<double>
      weights_;  // exp((logit - highest) / temperature), in the order of candidates_
};

}  // namespace phi::shard
