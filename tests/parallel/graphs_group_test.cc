// Decode steps as CUDA graphs under a whole model and several ranks: the bits of queued steps, with
// the collectives in the graphs.
#include "tests/parallel/graphs_group.h"

#include <gtest/gtest.h>

namespace phi::shard {
namespace {

TEST_P(GraphsGroup, AReplayGivesTheBitsOfAQueuedStep) {
  const std::vector<StepPlan> plans = MakeGraphPlans();
  const std::vector<RankRun> queued = Run(0, plans);
  const std::vector<RankRun> replayed = Run(64, plans);
  for (size_t rank = 0; rank < queued.size(); ++rank) {
    EXPECT_EQ(replayed[rank].tokens, queued[rank].tokens);
    for (const RankRun* run : {&queued[rank], &replayed[rank]}) {
      EXPECT_EQ(run->stats.all_reduces, plans.size() * kNumLayers);
      EXPECT_EQ(run->stats.gathers, plans.size());
    }
  }
  EXPECT_EQ(queued[0].tokens.size(), 3 * (1 + kThreeRowSteps) + kOneRowSteps);
}

constexpr kernels::DType kFloat32 = kernels::DType::kFloat32;
constexpr kernels::DType kBFloat16 = kernels::DType::kBFloat16;
INSTANTIATE_TEST_SUITE_P(All,
                         GraphsGroup,
                         testing::Values(GraphsCase{kFloat32, false, 1},
                                         GraphsCase{kBFloat16, false, 2},
                                         GraphsCase{kFloat32, true, 2}),
                         GraphsCaseName);

}  // namespace
}  // namespace phi::shard
