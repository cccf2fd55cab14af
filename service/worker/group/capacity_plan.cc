#include "service/worker/group/capacity_plan.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"

namespace phi::service {
namespace {

// Of the free memory left beside weights and activations: the rest is for pages of the checkpoint
// while it is packed, connections, and other processes' growth.
constexpr double kKvShareOfFree = 0.8;

std::vector<shard::MemoryPlan> PlanRanks(const CapacityRequest& request,
                                         const shard::ModelConfig& config,
                                         const kernels::Backend& backend,
                                         const shard::RankLimits& limits) {
  std::vector<shard::MemoryPlan> plans;
  plans.reserve(static_cast<size_t>(request.world_size));
  for (int rank = 0; rank < request.world_size; ++rank) {
    plans.push_back(shard::PlanMemory(config, backend, limits, rank, request.world_size));
  }
  return plans;
}

absl::Status TooLarge(uint64_t needed, uint64_t free) {
  return absl::ResourceExhaustedError(absl::StrFormat(
      "the model needs %d MiB of memory and %d MiB are free", needed >> 20, free >> 20));
}

}  // namespace

uint64_t CapacityPlan::total_bytes() const {
  uint64_t total = 0;
  for (const shard::MemoryPlan& plan : ranks) total += plan.total();
  return total;
}

absl::StatusOr<CapacityPlan> PlanCapacity(const CapacityRequest& request,
                                          const shard::ModelConfig& config,
                                          const kernels::Backend& backend) {
  CapacityPlan plan;
  plan.limits = {.max_sequences = request.max_sequences,
                 .max_step_tokens = request.max_step_tokens,
                 .num_kv_blocks = 1};
  plan.ranks = PlanRanks(request, config, backend, plan.limits);
  // Uneven shares: the block id is the same on all ranks, so the largest share decides.
  uint64_t block_bytes = 0;
  uint64_t all_block_bytes = 0;
  for (const shard::MemoryPlan& rank : plan.ranks) {
    block_bytes = std::max<uint64_t>(block_bytes, rank.kv_cache);
    all_block_bytes += rank.kv_cache;
  }
  PHI_CHECK(block_bytes > 0 && all_block_bytes > 0, "no KV cache on %d ranks", request.world_size);
  const uint64_t fixed_bytes = plan.total_bytes() - all_block_bytes;
  const uint64_t context = static_cast<uint64_t>(config.max_positions);
  const uint64_t context_blocks = (context + kernels::kKvBlockTokens - 1) / kernels::kKvBlockTokens;
  const uint64_t useful_blocks = context_blocks * request.max_sequences;

  uint64_t num_blocks = 0;
  if (request.kv_cache_bytes > 0) {
    num_blocks = std::min(useful_blocks, request.kv_cache_bytes / block_bytes);
    if (num_blocks == 0) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "--kv_cache_bytes=%d holds no block of %d bytes", request.kv_cache_bytes, block_bytes));
    }
    const uint64_t needed = fixed_bytes + num_blocks * all_block_bytes;
    if (needed > request.free_memory_bytes) return TooLarge(needed, request.free_memory_bytes);
  } else {
    const uint64_t least = fixed_bytes + context_blocks * all_block_bytes;
    if (least > request.free_memory_bytes) return TooLarge(least, request.free_memory_bytes);
    const double kv_bytes =
        kKvShareOfFree * static_cast<double>(request.free_memory_bytes - fixed_bytes);
    num_blocks = std::clamp(
        static_cast<uint64_t>(kv_bytes) / all_block_bytes, context_blocks, useful_blocks);
  }
  plan.limits.num_kv_blocks =
      static_cast<uint32_t>(std::min<uint64_t>(num_blocks, UINT32_MAX / 64));
  plan.ranks = PlanRanks(request, config, backend, plan.limits);
  return plan;
}

}  // namespace phi::service
