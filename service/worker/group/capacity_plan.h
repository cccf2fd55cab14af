#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "shard/checkpoint/model_config.h"
#include "shard/rank.h"

namespace phi::service {

struct CapacityRequest {
  uint32_t max_sequences = 0;
  uint32_t max_step_tokens = 0;
  int world_size = 1;
  uint64_t kv_cache_bytes = 0;  // of one rank; 0: what free memory leaves
  // What is free: one number where all ranks share a machine's memory, or one a rank, of its GPU.
  std::vector<uint64_t> free_bytes;
  uint64_t scratch_bytes = 0;  // of one rank, beside its plan
};

// What every rank of a group takes at its start.
struct CapacityPlan {
  shard::RankLimits limits;
  std::vector<shard::MemoryPlan> ranks;
  uint64_t total_bytes() const;
};

// The KV cache that memory allows on the rank with the least room, and no more than max_sequences
// whole contexts, which is all that can ever be used. RESOURCE_EXHAUSTED with the bytes needed and
// there where not even one context fits or, for an explicit kv_cache_bytes, where the plan exceeds
// what is free; INVALID_ARGUMENT where kv_cache_bytes holds no block.
absl::StatusOr<CapacityPlan> PlanCapacity(const CapacityRequest& request,
                                          const shard::ModelConfig& config,
                                          const kernels::MemoryLayout& layout);

}  // namespace phi::service
