// Decode steps as CUDA graphs under a whole model and several ranks, on the host harness: the bits
// of queued steps, with the collectives in the graphs.
#include <gtest/gtest.h>

#include <cstdio>
#include <thread>

#include "kernels/cuda/cuda_backend.h"
#include "shard/collective/nccl_communicator.h"
#include "shard/rank.h"
#include "tests/cuda_host/harness.h"
#include "tests/parallel/rank_threads.h"
#include "tools/make_checkpoint/random_checkpoint.h"

namespace phi::shard {
namespace {

constexpr uint64_t kNumLayers = 2;
const tools::ModelShape kShape{.vocab_size = 150,
                               .hidden_size = 64,
                               .intermediate_size = 96,
                               .num_hidden_layers = kNumLayers,
                               .num_attention_heads = 4,
                               .max_position_embeddings = 64};

// Prompts, then decode steps of three rows, then of one. What goes on is given, so that the plans
// do not depend on the answers. Every second step needs whole rows of logits.
constexpr uint32_t kThreeRowSteps = 6;
constexpr uint32_t kOneRowSteps = 5;
std::vector<StepPlan> MakePlans() {
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
// The first step of a number of rows is queued, the others are graphs.
constexpr uint64_t kGraphSteps = kThreeRowSteps - 1 + kOneRowSteps - 1;

struct GroupCase {
  kernels::DType dtype;
  bool batch_invariant;
  int world_size;
};

struct RankRun {
  std::vector<SampledToken> tokens;
  CollectiveStats stats;
  cuda_host::DeviceCounts counts;
};

class CudaGraphsGroup : public testing::TestWithParam<GroupCase> {
 protected:
  void SetUp() override {
    const absl::Status made = tools::WriteRandomCheckpoint(
        {.dir = dir_.path(), .shape = kShape, .seed = 2, .tokenizer_path = "", .on_progress = {}});
    ASSERT_TRUE(made.ok()) << made;
    cuda_host::Configure({});
  }
  void TearDown() override { cuda_host::Configure({}); }

  // Each rank, on its device and thread.
  std::vector<RankRun> Run(int64_t max_graph_rows, const std::vector<StepPlan>& plans) const {
    const auto world_size = static_cast<size_t>(GetParam().world_size);
    std::vector<RankRun> runs(world_size);
    const absl::StatusOr<std::string> id = MakeNcclUniqueId();
    EXPECT_TRUE(id.ok()) << id.status();
    std::vector<std::jthread> threads;
    for (size_t rank = 0; rank < world_size; ++rank) {
      threads.emplace_back([&, rank] {
        RankProgress progress;
        const std::unique_ptr<Rank> made =
            MakeRank(static_cast<int>(rank), max_graph_rows, *id, &progress);
        static_cast<void>(cuda_host::TakeCounts(static_cast<int>(rank)));
        for (const StepPlan& plan : plans) {
          const absl::StatusOr<StepResult> result = made->Execute(plan);
          ASSERT_TRUE(result.ok()) << result.status();
          runs[rank].tokens.insert(
              runs[rank].tokens.end(), result->tokens.begin(), result->tokens.end());
        }
        runs[rank].stats = made->collective_stats();
        runs[rank].counts = cuda_host::TakeCounts(static_cast<int>(rank));
      });
    }
    threads.clear();
    return runs;
  }

 private:
  std::unique_ptr<Rank> MakeRank(int rank,
                                 int64_t max_graph_rows,
                                 const std::string& id,
                                 RankProgress* progress) const {
    auto backend = kernels::MakeCudaBackend({.device = rank,
                                             .dtype = GetParam().dtype,
                                             .batch_invariant = GetParam().batch_invariant,
                                             .max_graph_rows = max_graph_rows});
    EXPECT_TRUE(backend.ok()) << backend.status();
    auto communicator = MakeNcclCommunicator(
        rank,
        GetParam().world_size,
        id,
        **backend,
        {.rank_order = GetParam().batch_invariant, .max_values = int64_t{1} << 16});
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

  TemporaryDir dir_;
};

TEST_P(CudaGraphsGroup, AReplayGivesTheBitsOfAQueuedStep) {
  const std::vector<StepPlan> plans = MakePlans();
  const std::vector<RankRun> queued = Run(0, plans);
  if (GetParam().world_size > 1 && !GetParam().batch_invariant) {
    // What is replayed is in the graph: one call more than those of queued and recorded steps
    // fails.
    const uint64_t calls = (plans.size() - kGraphSteps + 2) * kNumLayers;
    cuda_host::FailCall("ncclAllReduce", static_cast<int>(2 * calls) + 1, 1);
  }
  const std::vector<RankRun> replayed = Run(64, plans);
  for (size_t rank = 0; rank < queued.size(); ++rank) {
    EXPECT_EQ(replayed[rank].tokens, queued[rank].tokens);
    EXPECT_EQ(queued[rank].counts.graph_launches, 0U);
    EXPECT_EQ(replayed[rank].counts.graph_launches, kGraphSteps);
    EXPECT_EQ(replayed[rank].counts.launches(), queued[rank].counts.launches());
    EXPECT_EQ(replayed[rank].counts.collectives, queued[rank].counts.collectives);
    for (const RankRun* run : {&queued[rank], &replayed[rank]}) {
      EXPECT_EQ(run->stats.all_reduces, plans.size() * kNumLayers);
      EXPECT_EQ(run->stats.gathers, plans.size());
    }
  }
  EXPECT_EQ(queued[0].tokens.size(), 3 * (1 + kThreeRowSteps) + kOneRowSteps);
}

class CudaGraphsLaunches : public CudaGraphsGroup {};

// The bound of the issue, 3 * layers + 4 launches at batch 1; and but one copy each way.
TEST_P(CudaGraphsLaunches, OfAGreedyStepOfOneRow) {
  const auto counts_of = [&](uint64_t num_steps) {
    std::vector<StepPlan> plans;
    for (uint32_t step = 0; step < num_steps; ++step) {
      StepPlan plan{.epoch = 1, .step = step, .token_ids = {step}};
      plan.sequences.push_back(
          {.num_tokens = 1, .first_position = step, .block_ids = {4}, .num_draws = 1});
      plans.push_back(std::move(plan));
    }
    return Run(64, plans)[0].counts;
  };
  const cuda_host::DeviceCounts few = counts_of(4);
  const cuda_host::DeviceCounts many = counts_of(9);
  const uint64_t launches = (many.launches() - few.launches()) / 5;
  EXPECT_EQ(5 * launches, many.launches() - few.launches());
  EXPECT_EQ(many.graph_launches - few.graph_launches, 5U);
  EXPECT_EQ(many.copies - few.copies, 10U);
  EXPECT_LE(launches, 3 * kNumLayers + 4);
  std::printf("%d layers: %d kernels a step, one of them outside of its graph\n",
              static_cast<int>(kNumLayers),
              static_cast<int>(launches));
}

constexpr kernels::DType kFloat32 = kernels::DType::kFloat32;
constexpr kernels::DType kBFloat16 = kernels::DType::kBFloat16;
std::string CaseName(const testing::TestParamInfo<GroupCase>& info) {
  return std::string(kernels::DTypeName(info.param.dtype)) +
         (info.param.batch_invariant ? "_batch_invariant_" : "_") +
         std::to_string(info.param.world_size) + "_ranks";
}
INSTANTIATE_TEST_SUITE_P(All,
                         CudaGraphsGroup,
                         testing::Values(GroupCase{kFloat32, false, 1},
                                         GroupCase{kBFloat16, false, 2},
                                         GroupCase{kFloat32, true, 2}),
                         CaseName);
INSTANTIATE_TEST_SUITE_P(All,
                         CudaGraphsLaunches,
                         testing::Values(GroupCase{kBFloat16, false, 1}),
                         CaseName);

}  // namespace
}  // namespace phi::shard
