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
                                         const kernels::MemoryLayout& layout,
                                         const shard::RankLimits& limits) {
  std::vector<shard::MemoryPlan> plans;
  plans.reserve(static_cast<size_t>(request.world_size));
  for (int rank = 0; rank < request.world_size; ++rank) {
    plans.push_back(shard::PlanMemory(config, layout, limits, rank, request.world_size));
  }
  return plans;
}

// Free memory and what the ranks that share it take of it.
struct Pool {
  uint64_t free_bytes = 0;
  uint64_t fixed_bytes = 0;  // beside the KV cache
  uint64_t block_bytes = 0;  // one KV block on each of its ranks

  uint64_t needed(uint64_t num_blocks) const { return fixed_bytes + num_blocks * block_bytes; }
  uint64_t affordable_blocks() const {
    return static_cast<uint64_t>(kKvShareOfFree * static_cast<double>(free_bytes - fixed_bytes)) /
           block_bytes;
  }
};

// `ranks` as planned for one KV block.
std::vector<Pool> MakePools(const CapacityRequest& request,
                            const std::vector<shard::MemoryPlan>& ranks) {
  std::vector<Pool> pools;
  for (const uint64_t free_bytes : request.free_bytes) pools.push_back({.free_bytes = free_bytes});
  PHI_CHECK(pools.size() == 1 || pools.size() == ranks.size(),
            "%zu memories of %zu ranks",
            pools.size(),
            ranks.size());
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    Pool& pool = pools[pools.size() == 1 ? 0 : rank];
    pool.fixed_bytes += ranks[rank].total() - ranks[rank].kv_cache + request.scratch_bytes;
    pool.block_bytes += ranks[rank].kv_cache;
  }
  for (const Pool& pool : pools)
    PHI_CHECK(pool.block_bytes > 0, "no KV cache on %zu ranks", ranks.size());
  return pools;
}

absl::Status CheckFits(const std::vector<Pool>& pools, uint64_t num_blocks) {
  for (const Pool& pool : pools) {
    if (pool.needed(num_blocks) > pool.free_bytes) {
      return absl::ResourceExhaustedError(
          absl::StrFormat("the model needs %d MiB of memory and %d MiB are free",
                          pool.needed(num_blocks) >> 20,
                          pool.free_bytes >> 20));
    }
  }
  return absl::OkStatus();
}

}  // namespace

uint64_t CapacityPlan::total_bytes() const {
  uint64_t total = 0;
  for (const shard::MemoryPlan& plan : ranks) total += plan.total();
  return total;
}

absl::StatusOr<CapacityPlan> PlanCapacity(const CapacityRequest& request,
                                          const shard::ModelConfig& config,
                                          const kernels::MemoryLayout& layout) {
  CapacityPlan plan;
  plan.limits = {.max_sequences = request.max_sequences,
                 .max_step_tokens = request.max_step_tokens,
                 .num_kv_blocks = 1};
  plan.ranks = PlanRanks(request, config, layout, plan.limits);
  const std::vector<Pool> pools = MakePools(request, plan.ranks);
  const uint64_t context_blocks = kernels::NumKvBlocks(static_cast<uint64_t>(config.max_positions));
  const uint64_t useful_blocks = context_blocks * request.max_sequences;

  uint64_t num_blocks = useful_blocks;
  if (request.kv_cache_bytes > 0) {
    // Uneven shares: the block id is the same on all ranks, so the largest share decides.
    uint64_t block_bytes = 0;
    for (const shard::MemoryPlan& rank : plan.ranks)
      block_bytes = std::max<uint64_t>(block_bytes, rank.kv_cache);
    PHI_CHECK(block_bytes > 0, "no KV cache on %zu ranks", plan.ranks.size());
    num_blocks = std::min(num_blocks, request.kv_cache_bytes / block_bytes);
    if (num_blocks == 0) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "--kv_cache_bytes=%d holds no block of %d bytes", request.kv_cache_bytes, block_bytes));
    }
    PHI_RETURN_IF_ERROR(CheckFits(pools, num_blocks));
  } else {
    PHI_RETURN_IF_ERROR(CheckFits(pools, context_blocks));
    for (const Pool& pool : pools) num_blocks = std::min(num_blocks, pool.affordable_blocks());
    num_blocks = std::max(num_blocks, context_blocks);
  }
  plan.limits.num_kv_blocks =
      static_cast<uint32_t>(std::min<uint64_t>(num_blocks, UINT32_MAX / 64));
  plan.ranks = PlanRanks(request, config, layout, plan.limits);
  return plan;
}

}  // namespace phi::service
