#pragma once

#include <library_types.h>

#include <cstddef>
#include <cstdint>

// The product behind cublasLtMatmul.
namespace phi::cuda_host {

struct Device;

// A column-major matrix [rows, cols] with `stride` elements from one column to the next; transposed
// where the product reads it so.
struct MatrixView {
  const std::byte* data = nullptr;
  cudaDataType_t type = CUDA_R_32F;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;
  bool transposed = false;

  int64_t ElementBytes() const { return type == CUDA_R_32F ? 4 : 2; }
  size_t Bytes() const {
    return static_cast<size_t>(((cols - 1) * stride + rows) * ElementBytes());
  }
  int64_t ViewRows() const { return transposed ? cols : rows; }
  int64_t ViewCols() const { return transposed ? rows : cols; }
};

// D = alpha A B + beta D in float32.
struct Matmul {
  MatrixView a;
  MatrixView b;
  MatrixView d;
  float alpha = 1;
  float beta = 0;
  float* output = nullptr;  // d's data
};

// Names the way in which RunMatmul sums: it changes with the number of columns of D.
uint64_t AlgorithmOf(const Matmul& matmul);
// Aborts unless the operands lie in the device's memory, 16-byte aligned, D apart from A and B.
void CheckOperands(const Matmul& matmul, const Device& device);
void RunMatmul(const Matmul& matmul);

}  // namespace phi::cuda_host
