#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/simd_math.h"

// LayerNorm of the residual stream, with the addition of a layer's result into it folded in.
namespace phi::kernels {
namespace {

template <class Simd>
void AddPartial(float* x, const float* partial, const float* bias, int64_t size) {
  using Float = Float32Element<Simd>;
  for (int64_t i = 0; i < size; i += kLanes) {
    const int64_t count = size - i;
    const auto added =
        Simd::Add(LoadFirst<Float>(partial + i, count), LoadFirst<Float>(bias + i, count));
    StoreFirst<Float>(x + i, Simd::Add(LoadFirst<Float>(x + i, count), added), count);
  }
}

template <class Simd>
float Mean(const float* x, int64_t size) {
  auto sum = Simd::Zero();
  for (int64_t i = 0; i < size; i += kLanes)
    sum = Simd::Add(sum, LoadFirst<Float32Element<Simd>>(x + i, size - i));
  return SumOfLanes<Simd>(sum) / static_cast<float>(size);
}

// The mean square of x - mean: a second pass, because E[x^2] - mean^2 cancels.
template <class Simd>
float Variance(const float* x, float mean, int64_t size) {
  auto sum = Simd::Zero();
  for (int64_t i = 0; i < size; i += kLanes) {
    const int64_t count = size - i;
    auto centred = Simd::Sub(LoadFirst<Float32Element<Simd>>(x + i, count), Simd::Set(mean));
    if (count < kLanes) centred = Simd::KeepFirst(centred, static_cast<int>(count), 0.0F);
    sum = Simd::MulAdd(centred, centred, sum);
  }
  return SumOfLanes<Simd>(sum) / static_cast<float>(size);
}

template <class Element, class Simd>
void Normalize(const NormArgs& args, int64_t first, int64_t end) {
  using Float = Float32Element<Simd>;
  for (int64_t row = first; row < end; ++row) {
    float* x = args.hidden + row * args.size;
    if (args.partial != nullptr)
      AddPartial<Simd>(x, args.partial + row * args.size, args.bias, args.size);
    const float mean = Mean<Simd>(x, args.size);
    const float variance = Variance<Simd>(x, mean, args.size);
    const float deviation = _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(variance + args.epsilon)));
    const auto scale = Simd::Set(1.0F / deviation);
    auto* out = reinterpret_cast<typename Element::Storage*>(args.out) + row * args.out_stride;
    for (int64_t i = 0; i < args.size; i += kLanes) {
      const int64_t count = args.size - i;
      const auto unit =
          Simd::Mul(Simd::Sub(LoadFirst<Float>(x + i, count), Simd::Set(mean)), scale);
      const auto gamma = LoadFirst<Float>(args.gamma + i, count);
      StoreFirst<Element>(
          out + i, Simd::MulAdd(unit, gamma, LoadFirst<Float>(args.beta + i, count)), count);
    }
  }
}

}  // namespace
}  // namespace phi::kernels
