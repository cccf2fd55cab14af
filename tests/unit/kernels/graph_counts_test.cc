// Which steps are CUDA graphs, and what becomes of the driver's errors: as the host harness counts
// and makes them.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include "tests/cuda_host/harness.h"
#include "tests/unit/kernels/graph_model.h"

namespace phi::kernels {
namespace {

class CudaGraphCountsTest : public testing::Test {
 protected:
  CudaGraphCountsTest() {
    cuda_host::Configure({});
    static_cast<void>(GraphLaunches());
  }
  ~CudaGraphCountsTest() override { cuda_host::Configure({}); }

  // Since the last call.
  static uint64_t GraphLaunches() { return cuda_host::TakeCounts(0).graph_launches; }
};

TEST_F(CudaGraphCountsTest, AllStepsOfANumberOfRowsButTheFirstAreGraphs) {
  GraphModel model(GraphOptions());
  for (int repeat = 0; repeat < 4; ++repeat) {
    for (const size_t rows : {1, 8, 11}) {
      static_cast<void>(model.Logits(GraphStep(std::vector<int32_t>(rows, 5))));
      EXPECT_EQ(GraphLaunches(), repeat == 0 ? 0U : 1U) << rows;
    }
  }
}

TEST_F(CudaGraphCountsTest, OnlyDecodeStepsWithinTheBoundAreRecorded) {
  GraphModel model(GraphOptions());
  GraphStep prefill({1, 2, 3});
  prefill.sequences = {{.first_row = 0, .num_rows = 3}};
  GraphStep without_logits({1, 2, 3});
  without_logits.logits_rows = {0, 2};
  GraphStep copies({1, 2, 3});
  copies.block_copies = {{.from = 0, .to = 1}};
  const GraphStep large(std::vector<int32_t>(kMostRows, 5));
  for (const GraphStep& step : {prefill, without_logits, copies, large}) {
    for (int repeat = 0; repeat < 3; ++repeat) static_cast<void>(model.Logits(step));
  }
  EXPECT_EQ(GraphLaunches(), 0U);
  for (int repeat = 0; repeat < 3; ++repeat) static_cast<void>(model.Logits(GraphStep({1, 2, 3})));
  EXPECT_EQ(GraphLaunches(), 2U);
}

TEST_F(CudaGraphCountsTest, ForgottenGraphsAreRecordedAnew) {
  GraphModel model(GraphOptions());
  static_cast<void>(model.Logits(GraphStep({7, 8})));
  for (int repeat = 0; repeat < 3; ++repeat) {
    model.backend->ForgetGraphs();
    static_cast<void>(model.Logits(GraphStep({7, 8})));
    EXPECT_EQ(GraphLaunches(), 1U);
  }
}

TEST_F(CudaGraphCountsTest, ErrorsAreReturned) {
  struct Failing {
    const char* call;
    int error;
  };
  for (const auto& [call, error] : {Failing{"cudaGraphInstantiate", cudaErrorMemoryAllocation},
                                    Failing{"cudaGraphLaunch", cudaErrorLaunchFailure}}) {
    GraphModel model(GraphOptions());
    auto* logits = reinterpret_cast<float*>(model.logits->data());
    ASSERT_TRUE(model.Run(GraphStep({4}), logits).ok());
    cuda_host::FailCall(call, 1, error);
    EXPECT_FALSE(model.Run(GraphStep({4}), logits).ok()) << call;
    EXPECT_FALSE(model.Run(GraphStep({4}), logits).ok()) << "the backend is lost after " << call;
    cuda_host::Configure({});
  }
}

}  // namespace
}  // namespace phi::kernels
