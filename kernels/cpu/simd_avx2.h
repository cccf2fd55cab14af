#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

// Sixteen float lanes as two AVX2 registers: the same interface as simd_avx512.h, so that each
// kernel is written once as a template over it.
//
// The unnamed namespace is essential. Each instruction set's translation unit is compiled with its
// own -m flags; an inline function with external linkage would be emitted by several of them, the
// linker would keep any one, and a weaker CPU would meet instructions that it lacks. For the same
// reason kernel headers call no function of the standard library. (kernel_linkage_test looks at the
// object files.)
namespace phi::kernels {
namespace {

struct Avx2 {
  struct Vec {
    __m256 low;
    __m256 high;
  };
  // 16 registers hold the sums of 6 output vectors, their weights and an operand.
  static constexpr int kMaxTileRows = 6;
  static constexpr int kMaxTileVecs = 4;
  static constexpr int kMaxTileSums = 6;
  static constexpr int kAttentionRows = 4;

  static Vec Zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
  static Vec Set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  static Vec Load(const float* from) { return {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)}; }
  static void Store(float* to, Vec x) {
    _mm256_storeu_ps(to, x.low);
    _mm256_storeu_ps(to + 8, x.high);
  }

  static Vec Add(Vec a, Vec b) {
    return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
  }
  static Vec Sub(Vec a, Vec b) {
    return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
  }
  static Vec Mul(Vec a, Vec b) {
    return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
  }
  static Vec Div(Vec a, Vec b) {
    return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
  }
  static Vec MulAdd(Vec a, Vec b, Vec c) {
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
  }
  // A NaN in `x` comes through.
  static Vec Max(Vec limit, Vec x) {
    return {_mm256_max_ps(limit.low, x.low), _mm256_max_ps(limit.high, x.high)};
  }
  static Vec Min(Vec limit, Vec x) {
    return {_mm256_min_ps(limit.low, x.low), _mm256_min_ps(limit.high, x.high)};
  }
  static Vec Round(Vec x) {
    constexpr int kMode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return {_mm256_round_ps(x.low, kMode), _mm256_round_ps(x.high, kMode)};
  }

  static float LargestLane(Vec x) {
    const __m256 eight = _mm256_max_ps(x.low, x.high);
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }

  // 2^n for whole n in -126 .. 127.
  static Vec PowerOfTwo(Vec n) { return {PowerOfTwo(n.low), PowerOfTwo(n.high)}; }

  // Lanes 0 .. count - 1 of x, `fill` in the others.
  static Vec KeepFirst(Vec x, int count, float fill) {
    return {KeepFirst(x.low, count, fill), KeepFirst(x.high, count - 8, fill)};
  }

  // Widens 16 bfloat16.
  static Vec LoadBFloat16(const uint16_t* from) { return {LoadEight(from), LoadEight(from + 8)}; }

  // Rounds to nearest even; NaN stays NaN.
  static void StoreBFloat16(uint16_t* to, Vec x) {
    // The pack interleaves the registers' 128-bit halves; the permutation puts them in order.
    const __m256i packed = _mm256_packus_epi32(RoundedBits(x.low), RoundedBits(x.high));
    const __m256i ordered = _mm256_permute4x64_epi64(packed, _MM_SHUFFLE(3, 1, 2, 0));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), ordered);
  }

  // Sixteen pairs of bfloat16 as two vectors: the pairs' first and second halves.
  static void LoadBFloat16Pairs(const std::byte* from, Vec& first, Vec& second) {
    const auto* pairs = reinterpret_cast<const __m256i*>(from);
    const __m256i low = _mm256_loadu_si256(pairs);
    const __m256i high = _mm256_loadu_si256(pairs + 1);
    const __m256i mask = _mm256_set1_epi32(static_cast<int>(0xffff0000U));
    first = {_mm256_castsi256_ps(_mm256_slli_epi32(low, 16)),
             _mm256_castsi256_ps(_mm256_slli_epi32(high, 16))};
    second = {_mm256_castsi256_ps(_mm256_and_si256(low, mask)),
              _mm256_castsi256_ps(_mm256_and_si256(high, mask))};
  }

 private:
  static __m256 PowerOfTwo(__m256 n) {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
  }

  static __m256 KeepFirst(__m256 x, int count, float fill) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i keep = _mm256_cmpgt_epi32(_mm256_set1_epi32(count), lane);
    return _mm256_blendv_ps(_mm256_set1_ps(fill), x, _mm256_castsi256_ps(keep));
  }

  static __m256 LoadEight(const uint16_t* from) {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
  }

  static __m256i RoundedBits(__m256 x) {
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded =
        _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    return _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
  }
};

}  // namespace
}  // namespace phi::kernels
