#pragma once

#include "kernels/cuda/element.cuh"
#include "kernels/cuda/kernels.h"

namespace phi::kernels::cuda {

// x[i] of one row before its LayerNorm. Whoever adds the residual up anywhere uses this sum, so
// that a row's bits do not depend on which kernel did it.
__device__ inline float AddResidual(float hidden, float partial, float bias) {
  return hidden + (partial + bias);
}

// LayerNorm of one row by one warp: cache[i] = x[i], then store(i, normed). A lane writes and reads
// only its own values of `cache`, which may be the row of norm.hidden itself. Sums are made in one
// order for any number of rows.
template <typename Store>
__device__ void NormalizeRow(
    const NormInput& norm, int64_t row, float* cache, int lane, Store store) {
  const int size = norm.size;
  const int64_t first = row * size;
  float sum = 0.0F;
#pragma unroll 8
  for (int i = lane; i < size; i += kWarp) {
    float x = norm.hidden[first + i];
    if (norm.partial != nullptr) x = AddResidual(x, norm.partial[first + i], norm.bias[i]);
    cache[i] = x;
    sum += x;
  }
  const float mean = WarpSum(sum) / static_cast<float>(size);
  float squares = 0.0F;
#pragma unroll 8
  for (int i = lane; i < size; i += kWarp) {
    const float difference = cache[i] - mean;
    squares = fmaf(difference, difference, squares);
  }
  const float variance = WarpSum(squares) / static_cast<float>(size);
  const float scale = 1.0F / sqrtf(variance + norm.epsilon);
#pragma unroll 8
  for (int i = lane; i < size; i += kWarp) {
    store(i, fmaf((cache[i] - mean) * scale, norm.gamma[i], norm.beta[i]));
  }
}

}  // namespace phi::kernels::cuda
