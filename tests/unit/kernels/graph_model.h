#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <span>
#include <vector>

#include "kernels/cuda/cuda_backend.h"
#include "tests/unit/kernels/kernel_fixture.h"

// What the tests of CUDA graphs run: embedding, LayerNorm and head of a few rows.
namespace phi::kernels {

inline constexpr int64_t kVocab = 40;
inline constexpr int64_t kHidden = 24;
inline constexpr int64_t kMostRows = 12;

// One token a sequence, logits for each.
struct GraphStep {
  explicit GraphStep(const std::vector<int32_t>& tokens) : token_ids(tokens) {
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
struct GraphModel {
  explicit GraphModel(const CudaOptions& options) {
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

  absl::Status Run(const GraphStep& step, float* to) {
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
  std::vector<float> Logits(const GraphStep& step) {
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

// With graphs of all but the largest steps.
inline CudaOptions GraphOptions() {
  return {.dtype = DType::kFloat32, .max_graph_rows = kMostRows - 1};
}

}  // namespace phi::kernels
