#pragma once

#include <barrier>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "shard/plan_channel.h"
#include "shard/rank.h"
#include "tests/parallel/rank_kinds.h"
#include "tests/parallel/rank_threads.h"

namespace phi::shard {

struct GroupOptions {
  std::string model_dir;
  int world_size = 1;
  RankMaker make_rank = {};
  uint32_t num_real_tokens = 0;
  uint32_t eos_token_id = 0;
  RankLimits limits = {.max_sequences = 16, .max_step_tokens = 512, .num_kv_blocks = 256};
};

// A whole tensor-parallel group in one process: rank 0 on the caller's thread, each other rank on a
// thread of its own, which takes plans from the plan channel as a rank process does.
class RankGroup {
 public:
  // Returns when all ranks have loaded: on GPUs of one process, one rank's cudaMalloc may wait for
  // another's collective, which waits for the first. Fails the test where a rank cannot start.
  explicit RankGroup(const GroupOptions& options);
  ~RankGroup();

  // Runs `plan` (its epoch and step are filled in) on all ranks; rank 0's answer.
  absl::StatusOr<StepResult> Execute(StepPlan plan);

  Rank& leader() { return *leader_; }
  // Ends all ranks, together, as their communicators may have to. Each rank's counts, rank 0 first.
  std::vector<CollectiveStats> Stop();

 private:
  std::unique_ptr<Rank> Create(const GroupOptions& options, int rank, RankProgress* progress);
  void Follow(const GroupOptions& options, int rank, int socket);

  TemporaryDir store_;
  uint64_t next_step_ = 0;
  RankProgress progress_;
  std::barrier<> all_ranks_;            // have loaded; have executed the last plan
  std::vector<CollectiveStats> stats_;  // one entry a rank, each written by its own thread
  std::optional<PlanSender> sender_;
  std::unique_ptr<Rank> leader_;
  std::vector<std::jthread> followers_;
};

// What one sequence asks of a group.
struct Prompt {
  std::vector<uint32_t> ids = {};
  SamplingParams sampling = {};
  uint32_t num_new_tokens = 0;
  uint32_t arrival_step = 0;
  // Tokens to go on with instead of the drawn ones: keeps two runs comparable after a near tie.
  std::vector<uint32_t> forced = {};
};

// How the steps are cut; none of it may change an answer (I1).
struct Schedule {
  uint32_t max_chunk =
      1000;  // prompt tokens a sequence and step: 1 .. max_chunk of them, at random
  bool whole_prompts = true;  // or all at once
  uint32_t seed = 0;          // of the chunks and of the order of blocks
};

// The tokens that each prompt got.
std::vector<std::vector<SampledToken>> Generate(RankGroup& group,
                                                const std::vector<Prompt>& prompts,
                                                const Schedule& schedule,
                                                uint32_t num_kv_blocks);

}  // namespace phi::shard
