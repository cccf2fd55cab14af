#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/dtype.h"
#include "shard/rank.h"
#include "tests/parallel/rank_threads.h"

// A small model on CUDA ranks whose decode steps are graphs, or are not.
namespace phi::shard {

inline constexpr uint64_t kNumLayers = 2;

// Steps of MakeGraphPlans().
inline constexpr uint32_t kThreeRowSteps = 6;
inline constexpr uint32_t kOneRowSteps = 5;
// The first step of a number of rows is queued, the others are graphs.
inline constexpr uint64_t kGraphSteps = kThreeRowSteps - 1 + kOneRowSteps - 1;

// Prompts, then decode steps of three rows, then of one. What goes on is given, so that the plans
// do not depend on the answers. Every second step needs whole rows of logits.
std::vector<StepPlan> MakeGraphPlans();

struct GraphsCase {
  kernels::DType dtype;
  bool batch_invariant;
  int world_size;
};
std::string GraphsCaseName(const testing::TestParamInfo<GraphsCase>& info);

struct RankRun {
  std::vector<SampledToken> tokens;
  CollectiveStats stats;
};

// Called on a rank's thread before its first step and after its last one.
using RankWatch = std::function<void(int rank)>;

class GraphsGroup : public testing::TestWithParam<GraphsCase> {
 protected:
  void SetUp() override;

  // Each rank, on its device and thread. Graphs of up to so many rows; 0: none.
  std::vector<RankRun> Run(int64_t max_graph_rows,
                           const std::vector<StepPlan>& plans,
                           const RankWatch& before = {},
                           const RankWatch& after = {}) const;

 private:
  std::unique_ptr<Rank> MakeRank(int rank,
                                 int64_t max_graph_rows,
                                 const std::string& id,
                                 RankProgress* progress) const;

  TemporaryDir dir_;
};

}  // namespace phi::shard
