#pragma once

#include <cstdint>
#include <vector>

#include "kernels/backend.h"
#include "shard/step_plan.h"

namespace phi::shard {

// A plan as the rows of a step: the arrays behind a kernels::StepBatch, with memory for the largest
// step taken once (I6).
class StepRows {
 public:
  StepRows(uint32_t max_sequences, uint32_t max_step_tokens, uint32_t max_positions);

  // `plan` passed ValidateStepPlan. The batch is valid until the next call.
  kernels::StepBatch Fill(const StepPlan& plan);

 private:
  std::vector<int32_t> token_ids_;
  std::vector<int32_t> positions_;
  std::vector<kernels::SequenceRows> sequences_;
  std::vector<int32_t> block_ids_;
  std::vector<int32_t> logits_rows_;
  std::vector<kernels::KvBlockCopy> block_copies_;
};

}  // namespace phi::shard
