#include "tests/parallel/graphs_group.h"

#include <barrier>
#include <thread>

#include "kernels/cuda/cuda_backend.h"
#include "shard/collective/nccl_communicator.h"
#include "tests/parallel/rank_kinds.h"
#include "tools/make_checkpoint/random_checkpoint.h"

namespace phi::shard {
namespace {

const tools::ModelShape kShape{.vocab_size = 150,
                               .hidden_size = 64,
                               .intermediate_size = 96,
                               .num_hidden_layers = kNumLayers,
                               .num_attention_heads = 4,
                               .max_position_embeddings = 64};

void Execute(Rank& rank, const std::vector<StepPlan>& plans, RankRun* run) {
  for (const StepPlan& plan : plans) {
    const absl::StatusOr<StepResult> result = rank.Execute(plan);
    ASSERT_TRUE(result.ok()) << result.status();
    run->tokens.insert(run->tokens.end(), result->tokens.begin(), result->tokens.end());
  }
  run->stats = rank.collective_stats();
}

}  // namespace

std::vector<StepPlan> MakeGraphPlans() {
  std::vector<StepPlan> plans;
  std::vector<uint32_t> lengths = {0, 0, 0};
  uint32_t token = 1;
  const auto add_step = [&](const std::vector<uint32_t>& num_tokens) {
    StepPlan plan{.epoch = 1, .step = plans.size()};
    for (uint32_t i = 0; i < num_tokens.size(); ++i) {
      for (uint32_t j = 0; j < num_tokens[i]; ++j) {
        token = token * 37 % 149;
        plan.token_ids.push_back(token);
      }
      std::vector<uint32_t> blocks;
      for (uint32_t block = 0; block * 16 < lengths[i] + num_tokens[i]; ++block)
        blocks.push_back(3 * block + i);
      SamplingParams sampling;
      if (plans.size() % 2 == 1) {
        sampling = {.num_top_logprobs = 8, .want_logprobs = true};
      } else if (i == 1) {
        sampling = {.temperature = 0.9F, .top_k = 20, .seed = 5};
      }
      plan.sequences.push_back({.num_tokens = num_tokens[i],
                                .first_position = lengths[i],
                                .block_ids = blocks,
                                .num_draws = 1,
                                .sampling = sampling});
      lengths[i] += num_tokens[i];
    }
    plans.push_back(std::move(plan));
  };
  add_step({5, 17, 3});
  for (uint32_t i = 0; i < kThreeRowSteps; ++i) add_step({1, 1, 1});
  for (uint32_t i = 0; i < kOneRowSteps; ++i) add_step({1});
  return plans;
}

std::string GraphsCaseName(const testing::TestParamInfo<GraphsCase>& info) {
  return std::string(kernels::DTypeName(info.param.dtype)) +
         (info.param.batch_invariant ? "_batch_invariant_" : "_") +
         std::to_string(info.param.world_size) + "_ranks";
}

void GraphsGroup::SetUp() {
  if (GetParam().world_size > MostRanks()) GTEST_SKIP() << MostRanks() << " devices";
  const absl::Status made = tools::WriteRandomCheckpoint(
      {.dir = dir_.path(), .shape = kShape, .seed = 2, .tokenizer_path = "", .on_progress = {}});
  ASSERT_TRUE(made.ok()) << made;
}

std::vector<RankRun> GraphsGroup::Run(int64_t max_graph_rows,
                                      const std::vector<StepPlan>& plans,
                                      const RankWatch& before,
                                      const RankWatch& after) const {
  const auto world_size = static_cast<size_t>(GetParam().world_size);
  std::vector<RankRun> runs(world_size);
  const absl::StatusOr<std::string> id = MakeNcclUniqueId();
  EXPECT_TRUE(id.ok()) << id.status();
  // One rank's cudaMalloc or cudaFree may wait for another's collective, which waits for the first.
  std::barrier all_ranks(static_cast<std::ptrdiff_t>(world_size));
  std::vector<std::jthread> threads;
  for (size_t rank = 0; rank < world_size; ++rank) {
    threads.emplace_back([&, rank] {
      RankProgress progress;
      const std::unique_ptr<Rank> made =
          MakeRank(static_cast<int>(rank), max_graph_rows, *id, &progress);
      all_ranks.arrive_and_wait();
      if (before) before(static_cast<int>(rank));
      Execute(*made, plans, &runs[rank]);
      if (after) after(static_cast<int>(rank));
      all_ranks.arrive_and_wait();
    });
  }
  threads.clear();
  return runs;
}

std::unique_ptr<Rank> GraphsGroup::MakeRank(int rank,
                                            int64_t max_graph_rows,
                                            const std::string& id,
                                            RankProgress* progress) const {
  auto backend = kernels::MakeCudaBackend({.device = rank,
                                           .dtype = GetParam().dtype,
                                           .batch_invariant = GetParam().batch_invariant,
                                           .max_graph_rows = max_graph_rows});
  EXPECT_TRUE(backend.ok()) << backend.status();
  auto communicator = MakeNcclCommunicator(rank,
                                           GetParam().world_size,
                                           id,
                                           **backend,
                                           {.rank_order = GetParam().batch_invariant,
                                            .max_values = int64_t{1} << 16,
                                            .destroy_together = true});
  EXPECT_TRUE(communicator.ok()) << communicator.status();
  auto made =
      Rank::Create({.model_dir = dir_.path(),
                    .num_real_tokens = 149,
                    .eos_token_id = 7,
                    .limits = {.max_sequences = 3, .max_step_tokens = 32, .num_kv_blocks = 12}},
                   *std::move(backend),
                   *std::move(communicator),
                   progress);
  EXPECT_TRUE(made.ok()) << made.status();
  return *std::move(made);
}

}  // namespace phi::shard
