#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

// Operands of the three dtypes: float, __nv_bfloat16 and __half.
namespace phi::kernels::cuda {

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xffffffffU;

// Elements in a 16-byte load.
template <typename T>
inline constexpr int kVector = static_cast<int>(16 / sizeof(T));

__device__ inline float ToFloat(float value) { return value; }
__device__ inline float ToFloat(__nv_bfloat16 value) { return __bfloat162float(value); }
__device__ inline float ToFloat(__half value) { return __half2float(value); }

// Rounds to nearest even.
template <typename T>
__device__ T FromFloat(float value);
template <>
__device__ inline float FromFloat<float>(float value) {
  return value;
}
template <>
__device__ inline __nv_bfloat16 FromFloat<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}
template <>
__device__ inline __half FromFloat<__half>(float value) {
  return __float2half_rn(value);
}

// The elements of a 16-byte load, lowest address first.
template <typename T>
__device__ inline void Unpack16(const uint4& raw, float (&values)[kVector<T>]) {
  const auto* elements = reinterpret_cast<const T*>(&raw);
#pragma unroll
  for (int i = 0; i < kVector<T>; ++i) values[i] = ToFloat(elements[i]);
}

// Two neighbours as a register of an mma fragment: the first one in the low half.
template <typename T>
__device__ inline uint32_t PackPair(float first, float second) {
  union {
    T elements[2];
    uint32_t bits;
  } pair = {{FromFloat<T>(first), FromFloat<T>(second)}};
  return pair.bits;
}

// Two neighbours in shared memory, 4-byte aligned.
template <typename T>
__device__ inline uint32_t LoadPair(const T* shared) {
  return *reinterpret_cast<const uint32_t*>(shared);
}

// Sum and maximum over the lanes of a warp, the same on all of them.
__device__ inline float WarpSum(float value) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, offset);
  }
  return value;
}

// gelu_new, 0.5 u (1 + tanh(z)) with z = sqrt(2/pi) (u + 0.044715 u^3), as u / (1 + e^(-2z)), which
// keeps its relative precision where tanh comes near -1. Source: Hugging Face activations.py.
__device__ inline float GeluNew(float u) {
  constexpr float kTwoSqrt2OverPi = 1.5957691216057308F;
  return u / (1.0F + expf(-kTwoSqrt2OverPi * (u + 0.044715F * u * u * u)));
}

}  // namespace phi::kernels::cuda
