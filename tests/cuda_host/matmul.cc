#include "tests/cuda_host/matmul.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "tests/cuda_host/grid.h"
#include "tests/cuda_host/streams.h"

namespace phi::cuda_host {
namespace {

float Element(const MatrixView& view, int64_t index) {
  const std::byte* const at = view.data + index * view.ElementBytes();
  if (view.type == CUDA_R_32F) {
    float value = 0;
    std::memcpy(&value, at, sizeof(value));
    return value;
  }
  uint16_t bits = 0;
  std::memcpy(&bits, at, sizeof(bits));
  if (view.type == CUDA_R_16F) return __half2float(__half(__half_raw{bits}));
  return __bfloat162float(__nv_bfloat16(__nv_bfloat16_raw{bits}));
}

// The matrix as [outer][k] floats, k being what the product sums over.
std::vector<float> Unroll(const MatrixView& view, int64_t outer, int64_t depth, bool outer_is_col) {
  std::vector<float> values(static_cast<size_t>(outer * depth));
  for (int64_t i = 0; i < outer; ++i) {
    for (int64_t k = 0; k < depth; ++k) {
      // (row, col) of the product's view, then of the memory.
      const int64_t row = outer_is_col ? k : i;
      const int64_t col = outer_is_col ? i : k;
      const int64_t index = view.transposed ? row * view.stride + col : col * view.stride + row;
      values[static_cast<size_t>(i * depth + k)] = Element(view, index);
    }
  }
  return values;
}

// Sums of chunks, then the sum of these, from one k on and around the end: which k and how long the
// chunks are is the algorithm.
float Dot(const float* x, const float* y, int64_t depth, uint64_t algorithm) {
  const auto start = static_cast<int64_t>(algorithm % static_cast<uint64_t>(depth));
  const int64_t chunk = 2 + static_cast<int64_t>(algorithm % 13);
  float sum = 0;
  for (int64_t first = 0; first < depth; first += chunk) {
    float part = 0;
    const int64_t end = std::min(depth, first + chunk);
    for (int64_t i = first; i < end; ++i) {
      const int64_t k = start + i < depth ? start + i : start + i - depth;
      part += x[k] * y[k];
    }
    sum += part;
  }
  return sum;
}

void CheckOperand(const char* name, const MatrixView& view, const Device& device) {
  if (!device.memory.ContainsDevice(view.data, view.Bytes()) &&
      !device.memory.ContainsHost(view.data, view.Bytes())) {
    Die("cublasLtMatmul: %s, %zu bytes at %p, is not in one allocation of the device",
        name,
        view.Bytes(),
        static_cast<const void*>(view.data));
  }
  if (reinterpret_cast<uintptr_t>(view.data) % 16 != 0) {
    Die("cublasLtMatmul: %s at %p is not 16-byte aligned, which the plan takes for granted",
        name,
        static_cast<const void*>(view.data));
  }
}

bool Overlap(const MatrixView& x, const MatrixView& y) {
  return x.data < y.data + y.Bytes() && y.data < x.data + x.Bytes();
}

}  // namespace

uint64_t AlgorithmOf(const Matmul& matmul) { return static_cast<uint64_t>(matmul.d.cols); }

void CheckOperands(const Matmul& matmul, const Device& device) {
  CheckOperand("A", matmul.a, device);
  CheckOperand("B", matmul.b, device);
  CheckOperand("D", matmul.d, device);
  if (Overlap(matmul.a, matmul.d) || Overlap(matmul.b, matmul.d)) {
    Die("cublasLtMatmul: D overlaps an operand");
  }
}

void RunMatmul(const Matmul& matmul) {
  const int64_t depth = matmul.a.ViewCols();
  const uint64_t algorithm = AlgorithmOf(matmul);
  const std::vector<float> a = Unroll(matmul.a, matmul.d.rows, depth, /*outer_is_col=*/false);
  const std::vector<float> b = Unroll(matmul.b, matmul.d.cols, depth, /*outer_is_col=*/true);
  for (int64_t col = 0; col < matmul.d.cols; ++col) {
    for (int64_t row = 0; row < matmul.d.rows; ++row) {
      float& out = matmul.output[col * matmul.d.stride + row];
      const float sum = Dot(&a[static_cast<size_t>(row * depth)],
                            &b[static_cast<size_t>(col * depth)],
                            depth,
                            algorithm);
      out = matmul.alpha * sum + (matmul.beta == 0 ? 0.0F : matmul.beta * out);
    }
  }
}

}  // namespace phi::cuda_host
