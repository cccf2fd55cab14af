#pragma once

#include "kernels/cuda/element.cuh"
#include "kernels/cuda/kernels.h"

namespace phi::kernels::cuda {

// x[i] of one row before its LayerNorm. Whoever adds the residual up anywhere uses this sum, so
// that a row's bits do not depend on which kernel did it.
__device__ inline float AddResidual(float hidden, float partial, float bias) {
  return hidden + (partial + bias);
}

// A row's sum is that of kNormParts sums, in their order: part p has the values i with
// i / 32 % kNormParts == p, a lane each 32nd of them. So the bits do not depend on how many warps
// share the row.
inline constexpr int kNormParts = 8;

// The warps of one row: this one is number `warp` of kWarps and has the parts warp, warp + kWarps,
// ... Of several warps, all of the block's call together, each for its own row.
template <int kWarps>
struct RowWarps {
  static constexpr int kParts = kNormParts / kWarps;
  int warp = 0;
  int lane = 0;
  float* sums = nullptr;  // with several warps: [2][kNormParts] of the row, in shared memory

  // The row's sum on all its threads; `use` is 0 at the first call and 1 at the second.
  __device__ float Add(const float (&parts)[kParts], int use) const {
    float total = 0.0F;
    if constexpr (kWarps == 1) {
#pragma unroll
      for (int p = 0; p < kParts; ++p) total += WarpSum(parts[p]);
    } else {
      float* shared = sums + use * kNormParts;
#pragma unroll
      for (int p = 0; p < kParts; ++p) {
        const float sum = WarpSum(parts[p]);
        if (lane == 0) shared[warp + p * kWarps] = sum;
      }
      __syncthreads();
#pragma unroll
      for (int p = 0; p < kNormParts; ++p) total += shared[p];
    }
    return total;
  }

  // Calls use(i, p) for this lane's values i < size, each of its part p.
  template <typename Use>
  __device__ void ForEach(int size, const Use& use) const {
    constexpr int kStep = kNormParts * kWarp;
#pragma unroll 2
    for (int begin = warp * kWarp + lane; begin < size; begin += kStep) {
#pragma unroll
      for (int p = 0; p < kParts; ++p) {
        const int i = begin + p * kWarps * kWarp;
        if (i < size) use(i, p);
      }
    }
  }
};

// LayerNorm of one row: cache[i] = x[i], then store(i, normed). A lane writes and reads only its
// own values of `cache`, which may be the row of norm.hidden itself.
template <int kWarps, typename Store>
__device__ void NormalizeRow(
    const NormInput& norm, int64_t row, float* cache, const RowWarps<kWarps>& warps, Store store) {
  constexpr int kParts = RowWarps<kWarps>::kParts;
  const int size = norm.size;
  const int64_t first = row * size;
  float sums[kParts] = {};
  warps.ForEach(size, [&](int i, int p) {
    float x = norm.hidden[first + i];
    if (norm.partial != nullptr) x = AddResidual(x, norm.partial[first + i], norm.bias[i]);
    cache[i] = x;
    sums[p] += x;
  });
  const float mean = warps.Add(sums, 0) / static_cast<float>(size);
  float squares[kParts] = {};
  warps.ForEach(size, [&](int i, int p) {
    const float difference = cache[i] - mean;
    squares[p] = fmaf(difference, difference, squares[p]);
  });
  const float variance = warps.Add(squares, 1) / static_cast<float>(size);
  const float scale = 1.0F / sqrtf(variance + norm.epsilon);
  warps.ForEach(size, [&](int i, int) {
    store(i, fmaf((cache[i] - mean) * scale, norm.gamma[i], norm.beta[i]));
  });
}

}  // namespace phi::kernels::cuda
