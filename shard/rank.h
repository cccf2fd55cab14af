#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "shard/checkpoint/model_config.h"
#include "shard/collective/communicator.h"
#include "shard/rank_progress.h"
#include "shard/sampling/sampled_token.h"
#include "shard/step_plan.h"

namespace phi::shard {

// Capacity of one rank, the same on all ranks of a group.
struct RankLimits {
  uint32_t max_sequences = 0;    // in one step
  uint32_t max_step_tokens = 0;  // rows of one step
  uint32_t num_kv_blocks = 0;    // of kKvBlockTokens tokens each
};

// What a rank allocates from its backend at its start, in bytes; printed, exported and held against
// PSS in a test. A backend's own scratch comes on top, see MakeCpuBackend.
struct MemoryPlan {
  size_t weights = 0;
  size_t kv_cache = 0;
  size_t activations = 0;
  size_t total() const { return weights + kv_cache + activations; }
};

struct StepResult {
  std::vector<SampledToken> tokens;  // by sequence, then draw; on rank 0 only
};

struct RankOptions {
  std::string model_dir;
  uint32_t num_real_tokens = 0;  // ids from here on are padding rows and never sampled
  uint32_t eos_token_id = 0;
  RankLimits limits;
  bool verify_weights = true;  // refuse NaN and Inf in the checkpoint
};

// What one rank of such a group would take; no file is read. `rank` and `world_size` as
// PartitionModel takes them.
MemoryPlan PlanMemory(const ModelConfig& config,
                      const kernels::MemoryLayout& layout,
                      const RankLimits& limits,
                      int rank,
                      int world_size);

// One tensor-parallel rank: the model's slice, its KV cache, its activations. It knows nothing of
// requests, text or RPCs: a plan goes in, tokens come out. All memory is taken in Create (I6).
// Threads: one caller.
class Rank {
 public:
  // `progress` outlives the rank; it may be shared memory.
  static absl::StatusOr<std::unique_ptr<Rank>> Create(const RankOptions& options,
                                                      std::unique_ptr<kernels::Backend> backend,
                                                      std::unique_ptr<Communicator> communicator,
                                                      RankProgress* progress);
  virtual ~Rank() = default;

  // Runs one step together with the other ranks. Collectives: exactly num_layers all-reduces and
  // one gather, and none for an idle plan. INVALID_ARGUMENT for a plan outside the limits or out of
  // order (I4). Any error loses the rank (I5): every later call returns it.
  virtual absl::StatusOr<StepResult> Execute(const StepPlan& plan) = 0;

  virtual const ModelConfig& config() const = 0;
  virtual const MemoryPlan& memory() const = 0;
  virtual const CollectiveStats& collective_stats() const = 0;
  virtual std::string Description() const = 0;
};

}  // namespace phi::shard
