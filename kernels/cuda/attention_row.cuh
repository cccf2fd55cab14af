#pragma once

#include "kernels/cuda/element.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/ptx.cuh"

// Softmax attention of one query by one warp, a block of kKvBlockTokens positions at a time with a
// running maximum. Source: Dao et al., FlashAttention, algorithm 1.
namespace phi::kernels::cuda {

// Dimensions of a head in one lane: lane, lane + 32, ...
template <int kDims>
struct RowState {
  float maximum = -INFINITY;
  float total = 0.0F;          // sum of e^(score - maximum), the same on all lanes
  float weighted[kDims] = {};  // sum of e^(score - maximum) * value
};

// The largest of the lanes' values, the same on all of them.
__device__ inline float WarpMax(float value) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, offset));
  }
  return value;
}

__device__ inline float ShuffleXor(float value, int mask) {
  return __shfl_xor_sync(kAllLanes, value, mask);
}
__device__ inline float FromLane(float value, int lane) {
  return __shfl_sync(kAllLanes, value, lane);
}

// The same element of the rotated head: (x[i], x[i + half]) turns by the angle of pair i.
// Source: Hugging Face modeling_phi.py, apply_rotary_pos_emb. `rotary` is the position's row.
__device__ inline float Rotated(const float* head, const float* rotary, int rotary_dim, int d) {
  if (d >= rotary_dim) return head[d];
  const int half = rotary_dim / 2;
  const int pair = d < half ? d : d - half;
  const float cosine = rotary[pair];
  const float sine = rotary[half + pair];
  return d < half ? head[d] * cosine - head[d + half] * sine
                  : head[d] * cosine + head[d - half] * sine;
}

// Rescales `state` to the maximum of its own and `maximum`, which is finite.
template <int kDims>
__device__ inline void RaiseMaximum(float maximum, RowState<kDims>& state) {
  const float raised = fmaxf(state.maximum, maximum);
  const float factor = expf(state.maximum - raised);  // 0 at the first call
  state.total *= factor;
#pragma unroll
  for (int j = 0; j < kDims; ++j) state.weighted[j] *= factor;
  state.maximum = raised;
}

// Adds the first `count` >= 1 positions of one head's block. What lies behind them may hold
// anything. query [padded_dim] in shared memory, divided by sqrt(head_dim), zero beyond head_dim.
template <typename T, int kDims>
__device__ void AttendBlock(const T* keys,
                            const T* values,
                            int count,
                            const float* query,
                            int padded_dim,
                            RowState<kDims>& state) {
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  // Two lanes a position, each half of the dimensions.
  const int position = lane / 2;
  const int half_dim = padded_dim / 2;
  const int first = lane % 2 * half_dim;
  float score = 0.0F;
  for (int d = first; d < first + half_dim; d += kVector<T>) {
    float key[kVector<T>];
    Unpack16<T>(ptx::LoadGlobal16(keys + position * padded_dim + d), key);
#pragma unroll
    for (int i = 0; i < kVector<T>; ++i) score = fmaf(query[d + i], key[i], score);
  }
  score += ShuffleXor(score, 1);
  const bool valid = position < count;
  RaiseMaximum(WarpMax(valid ? score : -INFINITY), state);
  const float weight = valid ? expf(score - state.maximum) : 0.0F;
  state.total += WarpSum(lane % 2 == 0 ? weight : 0.0F);

  float weights[kKvBlockTokens];
#pragma unroll
  for (int i = 0; i < kKvBlockTokens; ++i) weights[i] = FromLane(weight, 2 * i);
#pragma unroll
  for (int j = 0; j < kDims; ++j) {
    const int d = lane + j * kWarp;
    if (d >= padded_dim) break;
#pragma unroll
    for (int begin = 0; begin < kKvBlockTokens; begin += kVector<T>) {
      float value[kVector<T>];
      Unpack16<T>(ptx::LoadGlobal16(values + d * kKvBlockTokens + begin), value);
#pragma unroll
      for (int i = 0; i < kVector<T>; ++i) {
        // Not a weight of zero: what nobody wrote may be a NaN.
        if (begin + i < count) {
          state.weighted[j] = fmaf(weights[begin + i], value[i], state.weighted[j]);
        }
      }
    }
  }
}

}  // namespace phi::kernels::cuda
