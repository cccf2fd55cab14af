#include "tests/unit/checkpoint/slice_backend.h"

#include <gtest/gtest.h>

#include <cstring>
#include <span>

#include "kernels/base/check.h"
#include "shard/checkpoint/elements.h"

namespace phi::shard {
namespace {

using kernels::AttentionShape;
using kernels::DeviceBuffer;
using kernels::KvLayer;
using kernels::NormWeights;
using kernels::Operands;
using kernels::PackedMatrix;
using kernels::WeightSlice;

class HostBuffer : public DeviceBuffer {
 public:
  explicit HostBuffer(size_t bytes) : bytes_(bytes) {}
  std::byte* data() override { return bytes_.data(); }
  size_t bytes() const override { return bytes_.size(); }

 private:
  std::vector<std::byte> bytes_;
};

std::vector<float> RowOf(const WeightSlice& slice, int64_t row) {
  std::vector<float> values;
  const size_t element = kernels::DTypeBytes(slice.dtype);
  AppendFloats({slice.data + static_cast<size_t>(row * slice.row_stride) * element,
                static_cast<size_t>(slice.cols) * element},
               slice.dtype,
               values);
  return values;
}

class SliceBackend : public kernels::Backend {
 public:
  std::string Description() const override { return "slices"; }
  std::string InstructionSet() const override { return "none"; }
  kernels::DType dtype() const override { return kernels::DType::kFloat32; }

  absl::StatusOr<std::unique_ptr<DeviceBuffer>> Allocate(size_t bytes) override {
    return std::make_unique<HostBuffer>(bytes);
  }

  absl::StatusOr<std::unique_ptr<PackedMatrix>> PackMatrix(
      int64_t rows, int64_t cols, std::span<const WeightSlice> slices) override {
    auto matrix = std::make_unique<PlainMatrix>(rows, cols);
    std::vector<int> times(matrix->values.size());
    for (const WeightSlice& slice : slices) {
      for (int64_t row = 0; row < slice.rows; ++row) {
        const std::vector<float> values = RowOf(slice, row);
        const auto to = static_cast<size_t>((slice.to_row + row) * cols + slice.to_col);
        PHI_CHECK(to + values.size() <= matrix->values.size(), "row %zu", to);
        for (size_t i = 0; i < values.size(); ++i) {
          matrix->values[to + i] = values[i];
          ++times[to + i];
        }
      }
    }
    EXPECT_EQ(times, std::vector<int>(times.size(), 1))
        << "slices do not cover [" << rows << ", " << cols << "] once";
    return matrix;
  }

  size_t PackedMatrixBytes(int64_t rows, int64_t cols) const override {
    return static_cast<size_t>(rows * cols) * sizeof(float);
  }

  absl::StatusOr<std::unique_ptr<DeviceBuffer>> UploadTable(const WeightSlice& slice) override {
    std::vector<float> values;
    for (int64_t row = 0; row < slice.rows; ++row) {
      const std::vector<float> more = RowOf(slice, row);
      values.insert(values.end(), more.begin(), more.end());
    }
    return UploadFloats(values);
  }

  absl::StatusOr<std::unique_ptr<DeviceBuffer>> UploadFloats(
      std::span<const float> values) override {
    auto buffer = std::make_unique<HostBuffer>(values.size_bytes());
    if (!values.empty()) std::memcpy(buffer->data(), values.data(), values.size_bytes());
    return buffer;
  }

  size_t KvBlockBytes(const AttentionShape& /*shape*/) const override { return NoStep<size_t>(); }
  void BeginStep(const kernels::StepBatch& /*batch*/) override { NoStep<int>(); }
  void CopyKvBlocks(const AttentionShape& /*shape*/, KvLayer /*cache*/) override { NoStep<int>(); }
  void Embed(const DeviceBuffer& /*table*/, int64_t /*hidden_size*/, float* /*hidden*/) override {
    NoStep<int>();
  }
  void LayerNorm(const float* /*hidden*/,
                 int64_t /*hidden_size*/,
                 const NormWeights& /*norm*/,
                 Operands /*out*/) override {
    NoStep<int>();
  }
  void ResidualLayerNorm(float* /*hidden*/,
                         const float* /*partial*/,
                         const float* /*bias*/,
                         int64_t /*hidden_size*/,
                         const NormWeights& /*norm*/,
                         Operands /*out*/) override {
    NoStep<int>();
  }
  void InProjection(Operands /*in*/,
                    const PackedMatrix& /*weight*/,
                    const float* /*bias*/,
                    int64_t /*qkv_cols*/,
                    float* /*qkv*/,
                    Operands /*mlp*/) override {
    NoStep<int>();
  }
  void RotaryAndCacheWrite(const AttentionShape& /*shape*/,
                           const float* /*rotary*/,
                           float* /*qkv*/,
                           KvLayer /*cache*/) override {
    NoStep<int>();
  }
  void PagedAttention(const AttentionShape& /*shape*/,
                      const float* /*qkv*/,
                      KvLayer /*cache*/,
                      Operands /*out*/) override {
    NoStep<int>();
  }
  void OutProjection(Operands /*in*/, const PackedMatrix& /*weight*/, float* /*partial*/) override {
    NoStep<int>();
  }
  void LmHead(Operands /*in*/,
              const PackedMatrix& /*weight*/,
              const float* /*bias*/,
              float* /*logits*/) override {
    NoStep<int>();
  }
  absl::Status FinishStep() override { return NoStep<absl::Status>(); }
  void TopCandidates(const kernels::LogitsRows& /*rows*/,
                     int /*count*/,
                     kernels::Candidate* /*out*/) override {
    NoStep<int>();
  }
  absl::Status CopyToHost(void* /*to*/, const void* /*from*/, size_t /*bytes*/) override {
    return NoStep<absl::Status>();
  }

 private:
  template <typename T>
  static T NoStep() {
    PHI_CHECK(false, "loading weights runs no step");
    return T();
  }
};

}  // namespace

std::unique_ptr<kernels::Backend> MakeSliceBackend() { return std::make_unique<SliceBackend>(); }

}  // namespace phi::shard
