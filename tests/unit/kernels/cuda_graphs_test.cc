// Decode steps as CUDA graphs, on the backend alone: embedding and head of a few rows.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "kernels/cuda/cuda_backend.h"
#include "tests/cuda_host/harness.h"
#include "tests/unit/kernels/kernel_fixture.h"

namespace phi::kernels {
namespace {

constexpr int64_t kVocab = 40;
constexpr int64_t kHidden = 24;
constexpr int64_t kMostRows = 12;

class CudaGraphsTest : public testing::Test {
 protected:
  // One token a sequence, logits for each.
  struct Step {
    explicit Step(const std::vector<int32_t>& tokens) : token_ids(tokens) {
      const auto rows = static_cast<int32_t>(tokens.size());
      positions.resize(tokens.size());
      for (int32_t row = 0; row < rows; ++row) {
        sequences.push_back({.first_row = row, .num_rows = 1});
        logits_rows.push_back(row);
      }
    }
    StepBatch batch() const {
      return {.token_ids = token_ids,
              .positions = positions,
              .sequences = sequences,
              .block_ids = {},
              .logits_rows = logits_rows,
              .block_copies = block_copies};
    }
    std::vector<int32_t> token_ids;
    std::vector<int32_t> positions;
    std::vector<SequenceRows> sequences;
    std::vector<int32_t> logits_rows;
    std::vector<KvBlockCopy> block_copies = {};
  };

  // Memory and weights of one model of an embedding, a LayerNorm and a head.
  struct Model {
    explicit Model(const CudaOptions& options) {
      backend = *MakeCudaBackend(options);
      const Matrix weights = RandomMatrix(kVocab, kHidden, DType::kFloat32, 1);
      const WeightSlice slice = {.data = reinterpret_cast<const std::byte*>(weights.values.data()),
                                 .dtype = DType::kFloat32,
                                 .rows = kVocab,
                                 .cols = kHidden,
                                 .row_stride = kHidden};
      table = *backend->UploadTable(slice);
      head = *backend->PackMatrix(kVocab, kHidden, std::span(&slice, 1));
      const std::vector<float> ones(kVocab, 1.0F);
      vector = *backend->UploadFloats(ones);
      hidden = *backend->Allocate(kMostRows * kHidden * sizeof(float));
      normed = *backend->Allocate(kMostRows * kHidden * sizeof(float));
      logits = *backend->Allocate(kMostRows * kVocab * sizeof(float));
    }

    absl::Status Run(const Step& step, float* to) {
      float* x = reinterpret_cast<float*>(hidden->data());
      const auto* ones = reinterpret_cast<const float*>(vector->data());
      const Operands operands = {normed->data(), kHidden};
      backend->BeginStep(step.batch());
      backend->Embed(*table, kHidden, x);
      backend->LayerNorm(x, kHidden, {.gamma = ones, .beta = ones}, operands);
      backend->LmHead(operands, *head, ones, to);
      return backend->FinishStep();
    }
    // Logits of the step.
    std::vector<float> Logits(const Step& step) {
      auto* memory = reinterpret_cast<float*>(logits->data());
      const absl::Status status = Run(step, memory);
      EXPECT_TRUE(status.ok()) << status;
      std::vector<float> values(step.token_ids.size() * kVocab);
      EXPECT_TRUE(backend->CopyToHost(values.data(), memory, values.size() * sizeof(float)).ok());
      return values;
    }

    std::unique_ptr<CudaBackend> backend;
    std::unique_ptr<DeviceBuffer> table;
    std::unique_ptr<PackedMatrix> head;
    std::unique_ptr<DeviceBuffer> vector;
    std::unique_ptr<DeviceBuffer> hidden;
    std::unique_ptr<DeviceBuffer> normed;
    std::unique_ptr<DeviceBuffer> logits;
  };

  CudaGraphsTest() {
    testing::FLAGS_gtest_death_test_style = "threadsafe";
    cuda_host::Configure({});
  }
  ~CudaGraphsTest() override { cuda_host::Configure({}); }

  static uint64_t GraphLaunches() { return cuda_host::TakeCounts(0).graph_launches; }

  const CudaOptions options_ = {.dtype = DType::kFloat32, .max_graph_rows = kMostRows - 1};
};

// The first step of so many rows is queued, the second recorded, and all give the bits of a backend
// without graphs: tokens come through the tables, which stay where they are.
TEST_F(CudaGraphsTest, AReplayGivesTheBitsOfAQueuedStep) {
  Model queued({.dtype = DType::kFloat32, .max_graph_rows = 0});
  Model replayed(options_);
  std::mt19937 random(3);
  for (int repeat = 0; repeat < 4; ++repeat) {
    // Up to 8 rows by the small product, more by the library.
    for (const size_t rows : {1, 2, 8, 9, 11}) {
      std::vector<int32_t> tokens(rows);
      for (int32_t& token : tokens) token = static_cast<int32_t>(random() % kVocab);
      const std::vector<float> expected = queued.Logits(Step(tokens));
      static_cast<void>(cuda_host::TakeCounts(0));
      const std::vector<float> logits = replayed.Logits(Step(tokens));
      EXPECT_EQ(GraphLaunches(), repeat == 0 ? 0U : 1U) << rows;
      EXPECT_EQ(std::memcmp(logits.data(), expected.data(), logits.size() * sizeof(float)), 0)
          << rows << " rows, time " << repeat;
    }
  }
}

TEST_F(CudaGraphsTest, OnlyDecodeStepsWithinTheBoundAreRecorded) {
  Model model(options_);
  Step prefill({1, 2, 3});
  prefill.sequences = {{.first_row = 0, .num_rows = 3}};
  Step without_logits({1, 2, 3});
  without_logits.logits_rows = {0, 2};
  Step copies({1, 2, 3});
  copies.block_copies = {{.from = 0, .to = 1}};
  const Step large(std::vector<int32_t>(kMostRows, 5));
  for (const Step& step : {prefill, without_logits, copies, large}) {
    for (int repeat = 0; repeat < 3; ++repeat) static_cast<void>(model.Logits(step));
  }
  EXPECT_EQ(GraphLaunches(), 0U);
  for (int repeat = 0; repeat < 3; ++repeat) static_cast<void>(model.Logits(Step({1, 2, 3})));
  EXPECT_EQ(GraphLaunches(), 2U);
}

TEST_F(CudaGraphsTest, ForgottenGraphsAreRecordedAnew) {
  Model model(options_);
  const std::vector<float> expected = model.Logits(Step({7, 8}));
  for (int repeat = 0; repeat < 3; ++repeat) {
    model.backend->ForgetGraphs();
    EXPECT_EQ(model.Logits(Step({7, 8})), expected);
    EXPECT_EQ(GraphLaunches(), 1U);
  }
}

// What is replayed is what was recorded, so a step of other calls is our bug.
TEST_F(CudaGraphsTest, AStepOfOtherCallsAborts) {
  Model model(options_);
  for (int repeat = 0; repeat < 2; ++repeat) static_cast<void>(model.Logits(Step({4})));
  auto* elsewhere = reinterpret_cast<float*>(model.logits->data()) + kVocab;
  EXPECT_DEATH(static_cast<void>(model.Run(Step({4}), elsewhere)), "is not the recorded one");
}

TEST_F(CudaGraphsTest, ErrorsAreReturned) {
  struct Failing {
    const char* call;
    int error;
  };
  for (const auto& [call, error] : {Failing{"cudaGraphInstantiate", cudaErrorMemoryAllocation},
                                    Failing{"cudaGraphLaunch", cudaErrorLaunchFailure}}) {
    Model model(options_);
    auto* logits = reinterpret_cast<float*>(model.logits->data());
    ASSERT_TRUE(model.Run(Step({4}), logits).ok());
    cuda_host::FailCall(call, 1, error);
    EXPECT_FALSE(model.Run(Step({4}), logits).ok()) << call;
    EXPECT_FALSE(model.Run(Step({4}), logits).ok()) << "the backend is lost after " << call;
    cuda_host::Configure({});
  }
}

}  // namespace
}  // namespace phi::kernels
