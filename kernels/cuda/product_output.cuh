#pragma once

#include "kernels/cuda/element.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/normalize.cuh"

namespace phi::kernels::cuda {

// Carries out ProductOutput for output n of row r. One thread calls it for each of them.
template <typename T>
__device__ inline void StoreOutput(const ProductOutput& output, int64_t row, int64_t n, float sum) {
  if (output.bias != nullptr) sum += output.bias[n];
  if (n >= output.split) {
    static_cast<T*>(output.gelu)[row * output.gelu_stride + n - output.split] =
        FromFloat<T>(GeluNew(sum));
    return;
  }
  float* plain = output.plain + row * output.split + n;
  if (output.residual != nullptr) {
    float* residual = output.residual + row * output.split + n;
    *residual = AddResidual(*residual, *plain, output.residual_bias[n]);
  }
  *plain = sum;
}

}  // namespace phi::kernels::cuda
