// Decode steps as CUDA graphs, on the backend alone.
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "tests/unit/kernels/graph_model.h"

namespace phi::kernels {
namespace {

// The first step of so many rows is queued, the second recorded, and all give the bits of a backend
// without graphs: tokens come through the tables, which stay where they are.
TEST(CudaGraphsTest, AReplayGivesTheBitsOfAQueuedStep) {
  GraphModel queued({.dtype = DType::kFloat32, .max_graph_rows = 0});
  GraphModel replayed(GraphOptions());
  std::mt19937 random(3);
  for (int repeat = 0; repeat < 4; ++repeat) {
    // Up to 8 rows by the small product, more by the library.
    for (const size_t rows : {1, 2, 8, 9, 11}) {
      std::vector<int32_t> tokens(rows);
      for (int32_t& token : tokens) token = static_cast<int32_t>(random() % kVocab);
      const std::vector<float> expected = queued.Logits(GraphStep(tokens));
      const std::vector<float> logits = replayed.Logits(GraphStep(tokens));
      EXPECT_EQ(std::memcmp(logits.data(), expected.data(), logits.size() * sizeof(float)), 0)
          << rows << " rows, time " << repeat;
    }
  }
}

TEST(CudaGraphsTest, ForgottenGraphsAreRecordedAnew) {
  GraphModel model(GraphOptions());
  const std::vector<float> expected = model.Logits(GraphStep({7, 8}));
  for (int repeat = 0; repeat < 3; ++repeat) {
    model.backend->ForgetGraphs();
    EXPECT_EQ(model.Logits(GraphStep({7, 8})), expected);
  }
}

// What is replayed is what was recorded, so a step of other calls is our bug. It also shows that
// the second step was recorded.
TEST(CudaGraphsDeathTest, AStepOfOtherCallsAborts) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  GraphModel model(GraphOptions());
  for (int repeat = 0; repeat < 2; ++repeat) static_cast<void>(model.Logits(GraphStep({4})));
  auto* elsewhere = reinterpret_cast<float*>(model.logits->data()) + kVocab;
  EXPECT_DEATH(static_cast<void>(model.Run(GraphStep({4}), elsewhere)), "is not the recorded one");
}

}  // namespace
}  // namespace phi::kernels
