#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels/backend.h"
#include "kernels/dtype.h"

// How the CUDA backend lays its memory out. No CUDA header: capacity is planned by a process that
// loads no driver.
namespace phi::kernels::cuda {

// Packed matrices are padded with zeros to a multiple of it, in both directions.
inline constexpr int64_t kPackedPadding = 64;
constexpr int64_t PadPacked(int64_t count) {
  return (count + kPackedPadding - 1) / kPackedPadding * kPackedPadding;
}

inline size_t PackedMatrixBytes(DType dtype, int64_t rows, int64_t cols) {
  return static_cast<size_t>(PadPacked(rows) * PadPacked(cols)) * DTypeBytes(dtype);
}

// Blocks of the KV cache: keys [key-value heads, kKvBlockTokens, padded_dim], so that a position is
// contiguous; values [key-value heads, padded_dim, kKvBlockTokens], so that the positions of one
// dimension are, which is what a product over positions reads.
struct KvLayout {
  explicit constexpr KvLayout(const AttentionShape& shape)
      : padded_dim((shape.head_dim + 15) / 16 * 16),
        head_elements(int64_t{kKvBlockTokens} * padded_dim),
        block_elements(head_elements * shape.num_key_value_heads) {}
  int padded_dim;
  int64_t head_elements;
  int64_t block_elements;
};

inline size_t KvBlockBytes(DType dtype, const AttentionShape& shape) {
  return 2 * static_cast<size_t>(KvLayout(shape).block_elements) * DTypeBytes(dtype);
}

// Largest head_dim of the attention kernels.
inline constexpr int kMaxHeadDim = 128;

}  // namespace phi::kernels::cuda

namespace phi::kernels {

// What MakeCudaBackend's will say, without a device.
class CudaMemoryLayout final : public MemoryLayout {
 public:
  explicit CudaMemoryLayout(DType dtype) : dtype_(dtype) {}
  DType dtype() const override { return dtype_; }
  size_t PackedMatrixBytes(int64_t rows, int64_t cols) const override {
    return cuda::PackedMatrixBytes(dtype_, rows, cols);
  }
  size_t KvBlockBytes(const AttentionShape& shape) const override {
    return cuda::KvBlockBytes(dtype_, shape);
  }

 private:
  DType dtype_;
};

}  // namespace phi::kernels
