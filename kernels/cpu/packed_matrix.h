#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/cpu/host_buffer.h"
#include "kernels/cpu/thread_pool.h"

namespace phi::kernels {

// Outputs side by side in one panel: the lanes of the kernels' vectors.
inline constexpr int kPanelRows = 16;
// Bytes of one step of a panel: a 512-bit vector, one cache line.
inline constexpr int kStepBytes = 64;

// Inputs that one step of a panel holds, and so the unit in which the kernels walk over K.
constexpr int64_t InputsPerStep(DType dtype) { return dtype == DType::kFloat32 ? 1 : 2; }
constexpr int64_t StepsFor(DType dtype, int64_t cols) {
  return (cols + InputsPerStep(dtype) - 1) / InputsPerStep(dtype);
}

// W [rows = outputs, cols = inputs] as the CPU products read it, in prefill and decode alike:
//
//   float32   [rows/16][cols][16]
//   bfloat16  [rows/16][cols/2][16][2]     two inputs of one output are neighbours, as vdpbf16ps
//   wants them
//
// so that a thread reads its panels from memory strictly in order, and each vector of weights meets
// one broadcast operand. What is missing to whole panels and steps is zero.
class CpuPackedMatrix final : public PackedMatrix {
 public:
  // `dtype` is float32 or bfloat16. Slices must cover the matrix exactly once (else
  // INVALID_ARGUMENT); each thread of `pool` packs, and so places in memory, the panels that it
  // will read.
  static absl::StatusOr<std::unique_ptr<CpuPackedMatrix>> Pack(DType dtype,
                                                               int64_t rows,
                                                               int64_t cols,
                                                               std::span<const WeightSlice> slices,
                                                               ThreadPool& pool);
  static size_t PackedBytes(DType dtype, int64_t rows, int64_t cols);

  int64_t rows() const override { return rows_; }
  int64_t cols() const override { return cols_; }
  size_t bytes() const override { return buffer_.bytes(); }

  int64_t num_panels() const { return (rows_ + kPanelRows - 1) / kPanelRows; }
  int64_t steps() const { return StepsFor(dtype_, cols_); }
  const std::byte* data() const { return buffer_.data(); }

  // One weight, for tests.
  float At(int64_t row, int64_t col) const;

 private:
  CpuPackedMatrix(DType dtype, int64_t rows, int64_t cols)
      : dtype_(dtype), rows_(rows), cols_(cols) {}

  size_t OffsetOf(int64_t row, int64_t col) const;
  void PackPanel(const WeightSlice& slice, int64_t panel);

  DType dtype_;
  int64_t rows_;
  int64_t cols_;
  HostBuffer buffer_;
};

}  // namespace phi::kernels
