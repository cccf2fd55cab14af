// What graphs of decode steps hold under a whole model and several ranks, as the host harness
// counts it.
#include <gtest/gtest.h>

#include <cstdio>

#include "tests/cuda_host/harness.h"
#include "tests/parallel/graphs_group.h"

namespace phi::shard {
namespace {

class GraphCounts : public GraphsGroup {
 protected:
  void SetUp() override {
    GraphsGroup::SetUp();
    cuda_host::Configure({});
  }
  void TearDown() override { cuda_host::Configure({}); }

  // Of each rank's steps.
  std::vector<cuda_host::DeviceCounts> Counted(int64_t max_graph_rows,
                                               const std::vector<StepPlan>& plans) const {
    std::vector<cuda_host::DeviceCounts> counts(static_cast<size_t>(GetParam().world_size));
    Run(
        max_graph_rows,
        plans,
        [](int rank) { static_cast<void>(cuda_host::TakeCounts(rank)); },
        [&](int rank) { counts[static_cast<size_t>(rank)] = cuda_host::TakeCounts(rank); });
    return counts;
  }
};

TEST_P(GraphCounts, AReplayDoesWhatAQueuedStepDoes) {
  const std::vector<StepPlan> plans = MakeGraphPlans();
  const std::vector<cuda_host::DeviceCounts> queued = Counted(0, plans);
  if (GetParam().world_size > 1 && !GetParam().batch_invariant) {
    // What is replayed is in the graph: one call more than those of queued and recorded steps
    // fails.
    const uint64_t calls = (plans.size() - kGraphSteps + 2) * kNumLayers;
    cuda_host::FailCall("ncclAllReduce", static_cast<int>(2 * calls) + 1, 1);
  }
  const std::vector<cuda_host::DeviceCounts> replayed = Counted(64, plans);
  for (size_t rank = 0; rank < queued.size(); ++rank) {
    EXPECT_EQ(queued[rank].graph_launches, 0U);
    EXPECT_EQ(replayed[rank].graph_launches, kGraphSteps);
    EXPECT_EQ(replayed[rank].launches(), queued[rank].launches());
    EXPECT_EQ(replayed[rank].collectives, queued[rank].collectives);
  }
}

class GraphLaunches : public GraphCounts {};

// The bound of the issue, 3 * layers + 4 launches at batch 1; and but one copy each way.
TEST_P(GraphLaunches, OfAGreedyStepOfOneRow) {
  const auto counts_of = [&](uint64_t num_steps) {
    std::vector<StepPlan> plans;
    for (uint32_t step = 0; step < num_steps; ++step) {
      StepPlan plan{.epoch = 1, .step = step, .token_ids = {step}};
      plan.sequences.push_back(
          {.num_tokens = 1, .first_position = step, .block_ids = {4}, .num_draws = 1});
      plans.push_back(std::move(plan));
    }
    return Counted(64, plans)[0];
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
INSTANTIATE_TEST_SUITE_P(All,
                         GraphCounts,
                         testing::Values(GraphsCase{kFloat32, false, 1},
                                         GraphsCase{kBFloat16, false, 2},
                                         GraphsCase{kFloat32, true, 2}),
                         GraphsCaseName);
INSTANTIATE_TEST_SUITE_P(All,
                         GraphLaunches,
                         testing::Values(GraphsCase{kBFloat16, false, 1}),
                         GraphsCaseName);

}  // namespace
}  // namespace phi::shard
