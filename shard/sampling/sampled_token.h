#pragma once

#include <cstdint>
#include <vector>

namespace phi::shard {

struct TokenLogprob {
  uint32_t token_id = 0;
  float logprob = 0;

  friend bool operator==(const TokenLogprob&, const TokenLogprob&) = default;
};

// One token drawn after a sequence's last row.
struct SampledToken {
  uint32_t sequence_index = 0;  // in StepPlan::sequences
  uint32_t draw_index = 0;      // 0 .. num_draws - 1 of that sequence
  uint32_t token_id = 0;
  // Where want_logprobs: log-softmax over all rows of the head, before penalties, bias, masks
  // and temperature.
  float logprob = 0;
  std::vector<TokenLogprob> top = {};  // most likely first, lowest id first on a tie
  bool nonfinite_logits = false;       // token_id means nothing then; only this sequence is hurt

  friend bool operator==(const SampledToken&, const SampledToken&) = default;
};

}  // namespace phi::shard
