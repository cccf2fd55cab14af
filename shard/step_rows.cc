#include "shard/step_rows.h"

namespace phi::shard {

StepRows::StepRows(uint32_t max_sequences, uint32_t max_step_tokens, uint32_t max_positions) {
  token_ids_.reserve(max_step_tokens);
  positions_.reserve(max_step_tokens);
  sequences_.reserve(max_sequences);
  block_ids_.reserve(size_t{max_sequences} * kernels::NumKvBlocks(max_positions));
  logits_rows_.reserve(max_sequences);
  block_copies_.reserve(max_sequences);
}

kernels::StepBatch StepRows::Fill(const StepPlan& plan) {
  token_ids_.assign(plan.token_ids.begin(), plan.token_ids.end());
  positions_.clear();
  sequences_.clear();
  block_ids_.clear();
  logits_rows_.clear();
  block_copies_.clear();
  for (const BlockCopy& copy : plan.block_copies) {
    block_copies_.push_back(
        {.from = static_cast<int32_t>(copy.from), .to = static_cast<int32_t>(copy.to)});
  }
  for (const PlannedSequence& sequence : plan.sequences) {
    sequences_.push_back({.first_row = static_cast<int32_t>(positions_.size()),
                          .num_rows = static_cast<int32_t>(sequence.num_tokens),
                          .first_position = static_cast<int32_t>(sequence.first_position),
                          .first_block = static_cast<int32_t>(block_ids_.size())});
    for (uint32_t i = 0; i < sequence.num_tokens; ++i) {
      positions_.push_back(static_cast<int32_t>(sequence.first_position + i));
    }
    block_ids_.insert(block_ids_.end(), sequence.block_ids.begin(), sequence.block_ids.end());
    if (sequence.num_draws > 0) logits_rows_.push_back(static_cast<int32_t>(positions_.size()) - 1);
  }
  return {.token_ids = token_ids_,
          .positions = positions_,
          .sequences = sequences_,
          .block_ids = block_ids_,
          .logits_rows = logits_rows_,
          .block_copies = block_copies_};
}

}  // namespace phi::shard
