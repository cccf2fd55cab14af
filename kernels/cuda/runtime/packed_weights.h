#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/runtime/device_memory.h"

namespace phi::kernels::cuda {

// A weight matrix on the device: rows of inputs, both directions padded with zeros (PackedWeights).
class PackedDeviceMatrix final : public PackedMatrix {
 public:
  // As Backend::PackMatrix; INVALID_ARGUMENT where the slices do not cover the matrix.
  static absl::StatusOr<std::unique_ptr<PackedDeviceMatrix>> Pack(
      DType dtype,
      int64_t rows,
      int64_t cols,
      std::span<const WeightSlice> slices,
      cudaStream_t stream);

  int64_t rows() const override { return weights_.outputs; }
  int64_t cols() const override { return weights_.cols; }
  size_t bytes() const override { return memory_->bytes(); }
  const PackedWeights& weights() const { return weights_; }

 private:
  PackedDeviceMatrix(std::unique_ptr<DeviceMemory> memory, const PackedWeights& weights)
      : memory_(std::move(memory)), weights_(weights) {}

  std::unique_ptr<DeviceMemory> memory_;
  PackedWeights weights_;
};

// A plain [rows, cols] table in `dtype` on the device.
absl::StatusOr<std::unique_ptr<DeviceMemory>> UploadRows(DType dtype,
                                                         const WeightSlice& slice,
                                                         cudaStream_t stream);

}  // namespace phi::kernels::cuda
