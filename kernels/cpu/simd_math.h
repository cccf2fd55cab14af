#pragma once

#include <cstdint>

// What the kernels share above the vector types: element access and transcendental functions, as
// templates over a Simd of simd_avx2.h or simd_avx512.h. Every lane runs the same instructions, the
// last, partly filled vector of a row included, so a value's bits never depend on where in a row it
// stands (I1).
namespace phi::kernels {
namespace {

inline constexpr int kLanes = 16;

// Elements of a row in memory, widened to float on the way in and rounded on the way out.
template <class Simd>
struct Float32Element {
  using Storage = float;
  static typename Simd::Vec Load(const float* from) { return Simd::Load(from); }
  static void Store(float* to, typename Simd::Vec x) { Simd::Store(to, x); }
};

template <class Simd>
struct BFloat16Element {
  using Storage = uint16_t;
  static typename Simd::Vec Load(const uint16_t* from) { return Simd::LoadBFloat16(from); }
  static void Store(uint16_t* to, typename Simd::Vec x) { Simd::StoreBFloat16(to, x); }
};

// The first `count` <= kLanes elements; the others are zero on the way in and untouched on the way
// out.
template <class Element>
auto LoadFirst(const typename Element::Storage* from, int64_t count) {
  if (count >= kLanes) return Element::Load(from);
  typename Element::Storage lanes[kLanes] = {};
  for (int64_t i = 0; i < count; ++i) lanes[i] = from[i];
  return Element::Load(lanes);
}

template <class Element, class Vec>
void StoreFirst(typename Element::Storage* to, Vec x, int64_t count) {
  if (count >= kLanes) return Element::Store(to, x);
  typename Element::Storage lanes[kLanes];
  Element::Store(lanes, x);
  for (int64_t i = 0; i < count; ++i) to[i] = lanes[i];
}

// Adds the lanes as a tree.
template <class Simd>
float SumOfLanes(typename Simd::Vec x) {
  float lanes[kLanes];
  Simd::Store(lanes, x);
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}

// e^x within 1.5 ulp for x in -87 .. 88; x outside counts as the nearer bound. e^x = 2^n e^r with
// |r| <= ln 2 / 2, e^r by its Taylor series, whose eighth term is below a tenth of an ulp there.
template <class Simd>
typename Simd::Vec Exp(typename Simd::Vec x) {
  using Vec = typename Simd::Vec;
  const Vec bounded = Simd::Min(Simd::Set(88.0F), Simd::Max(Simd::Set(-87.0F), x));
  const Vec n = Simd::Round(Simd::Mul(bounded, Simd::Set(1.44269504F)));
  // ln 2 in two parts; the products of the first with n are exact.
  Vec r = Simd::MulAdd(n, Simd::Set(-0.693359375F), bounded);
  r = Simd::MulAdd(n, Simd::Set(2.12194440e-4F), r);
  Vec sum = Simd::Set(1.0F / 5040.0F);
  sum = Simd::MulAdd(sum, r, Simd::Set(1.0F / 720.0F));
  sum = Simd::MulAdd(sum, r, Simd::Set(1.0F / 120.0F));
  sum = Simd::MulAdd(sum, r, Simd::Set(1.0F / 24.0F));
  sum = Simd::MulAdd(sum, r, Simd::Set(1.0F / 6.0F));
  sum = Simd::MulAdd(sum, r, Simd::Set(0.5F));
  sum = Simd::MulAdd(sum, r, Simd::Set(1.0F));
  sum = Simd::MulAdd(sum, r, Simd::Set(1.0F));
  return Simd::Mul(sum, Simd::PowerOfTwo(n));
}

// gelu_new(u) = 0.5 u (1 + tanh(z)) with z = sqrt(2/pi) (u + 0.044715 u^3). Because 1 + tanh(z) = 2
// / (1 + e^-2z), it is u / (1 + e^-2z), which needs no tanh and does not cancel where z is far
// below zero.
template <class Simd>
typename Simd::Vec GeluNew(typename Simd::Vec u) {
  using Vec = typename Simd::Vec;
  constexpr float kMinusTwoRootTwoOverPi = -1.5957691216F;
  const Vec cubic = Simd::MulAdd(Simd::Mul(u, u), Simd::Set(0.044715F), Simd::Set(1.0F));
  const Vec exponent = Simd::Mul(Simd::Mul(u, cubic), Simd::Set(kMinusTwoRootTwoOverPi));
  return Simd::Div(u, Simd::Add(Simd::Set(1.0F), Exp<Simd>(exponent)));
}

}  // namespace
}  // namespace phi::kernels
