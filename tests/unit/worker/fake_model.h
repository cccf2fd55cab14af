#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "kernels/base/check.h"
#include "shard/rank.h"
#include "shard/step_plan.h"

namespace phi::service {

// A model whose next token is a hash of all tokens so far. What it keeps in its paged cache for a
// position depends on all tokens up to there, as the real one's keys and values do: a wrong block,
// position, order or prefix anywhere changes every later token.
class FakeModel {
 public:
  FakeModel(uint32_t num_blocks, uint32_t num_tokens)
      : cache_(size_t{num_blocks} * kernels::kKvBlockTokens, kEmpty), num_tokens_(num_tokens) {}

  shard::StepResult Run(const shard::StepPlan& plan) {
    for (const shard::BlockCopy& copy : plan.block_copies) {
      const auto from = cache_.begin() + int64_t{copy.from} * kernels::kKvBlockTokens;
      std::copy(from,
                from + kernels::kKvBlockTokens,
                &cache_.at(size_t{copy.to} * kernels::kKvBlockTokens));
    }
    shard::StepResult result;
    size_t next_input = 0;
    for (size_t i = 0; i < plan.sequences.size(); ++i) {
      const shard::PlannedSequence& sequence = plan.sequences[i];
      const uint32_t end = sequence.first_position + sequence.num_tokens;
      for (uint32_t p = sequence.first_position; p < end; ++p)
        Slot(sequence, p) = Mix(p == 0 ? 0 : Slot(sequence, p - 1), plan.token_ids[next_input++]);
      uint64_t sum = 0;
      for (uint32_t p = 0; p < (sequence.num_draws == 0 ? 0 : end); ++p) sum += Slot(sequence, p);
      for (uint32_t draw = 0; draw < sequence.num_draws; ++draw) {
        shard::SampledToken token;
        token.sequence_index = static_cast<uint32_t>(i);
        token.draw_index = draw;
        token.token_id = Draw(sum, num_tokens_, sequence.sampling.sample_index + draw);
        result.tokens.push_back(token);
      }
    }
    PHI_CHECK(next_input == plan.token_ids.size(),
              "%zu of %zu tokens",
              next_input,
              plan.token_ids.size());
    return result;
  }

  static uint32_t NextToken(std::span<const uint32_t> context,
                            uint32_t num_tokens,
                            uint32_t sample = 0) {
    uint64_t state = 0;
    uint64_t sum = 0;
    for (uint32_t token : context) sum += state = Mix(state, token);
    return Draw(sum, num_tokens, sample);
  }

 private:
  static constexpr uint64_t kEmpty = 0xFFFFFFFF;

  static uint64_t Mix(uint64_t state, uint64_t value) {
    state = (state + value + 1) * 0x9E3779B97F4A7C15U;
    return state ^ (state >> 29);
  }
  static uint32_t Draw(uint64_t sum, uint32_t num_tokens, uint32_t sample) {
    return static_cast<uint32_t>((Mix(sum, sample) >> 20) % num_tokens);
  }

  uint64_t& Slot(const shard::PlannedSequence& sequence, uint32_t position) {
    const uint32_t block = sequence.block_ids.at(position / kernels::kKvBlockTokens);
    return cache_.at(size_t{block} * kernels::kKvBlockTokens + position % kernels::kKvBlockTokens);
  }

  std::vector<uint64_t> cache_;
  uint32_t num_tokens_;
};

}  // namespace phi::service
