#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "kernels/base/check.h"
#include "shard/rank.h"
#include "shard/step_plan.h"

namespace phi::service {

// A model whose next token is a hash of all tokens so far, which it keeps in a paged cache as the
// real one does: a wrong block, position or order anywhere changes every later token.
class FakeModel {
 public:
  FakeModel(uint32_t num_blocks, uint32_t num_tokens)
      : cache_(size_t{num_blocks} * kernels::kKvBlockTokens, kEmpty), num_tokens_(num_tokens) {}

  shard::StepResult Run(const shard::StepPlan& plan) {
    shard::StepResult result;
    size_t next_input = 0;
    for (size_t i = 0; i < plan.sequences.size(); ++i) {
      const shard::PlannedSequence& sequence = plan.sequences[i];
      const uint32_t end = sequence.first_position + sequence.num_tokens;
      for (uint32_t p = sequence.first_position; p < end; ++p)
        Slot(sequence, p) = plan.token_ids[next_input++];
      if (sequence.num_draws == 0) continue;
      std::vector<uint32_t> context(end);
      for (uint32_t p = 0; p < end; ++p) context[p] = Slot(sequence, p);
      shard::SampledToken token;
      token.sequence_index = static_cast<uint32_t>(i);
      token.token_id = NextToken(context, num_tokens_);
      result.tokens.push_back(token);
    }
    PHI_CHECK(next_input == plan.token_ids.size(),
              "%zu of %zu tokens",
              next_input,
              plan.token_ids.size());
    result.timings.seconds = 1e-3;
    return result;
  }

  static uint32_t NextToken(std::span<const uint32_t> context, uint32_t num_tokens) {
    uint64_t hash = 1469598103934665603U;
    for (uint32_t token : context) hash = (hash ^ token) * 1099511628211U;
    return static_cast<uint32_t>((hash >> 20) % num_tokens);
  }

 private:
  static constexpr uint32_t kEmpty = 0xFFFFFFFF;

  uint32_t& Slot(const shard::PlannedSequence& sequence, uint32_t position) {
    const uint32_t block = sequence.block_ids.at(position / kernels::kKvBlockTokens);
    return cache_.at(size_t{block} * kernels::kKvBlockTokens + position % kernels::kKvBlockTokens);
  }

  std::vector<uint32_t> cache_;
  uint32_t num_tokens_;
};

}  // namespace phi::service
