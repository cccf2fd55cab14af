#pragma once

#include <immintrin.h>

#include <cstdint>

// Sixteen float lanes as one AVX-512 register. See simd_avx2.h for why everything here has internal
// linkage.
namespace phi::kernels {
namespace {

struct Avx512 {
  using Vec = __m512;
  // 32 registers hold the sums of 24 output vectors, their weights and an operand.
  static constexpr int kMaxTileRows = 12;
  static constexpr int kMaxTileVecs = 4;
  static constexpr int kMaxTileSums = 24;
  static constexpr int kAttentionRows = 8;

  static Vec Zero() { return _mm512_setzero_ps(); }
  static Vec Set(float x) { return _mm512_set1_ps(x); }
  static Vec Load(const float* from) { return _mm512_loadu_ps(from); }
  static void Store(float* to, Vec x) { _mm512_storeu_ps(to, x); }

  static Vec Add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
  static Vec Sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
  static Vec Mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
  static Vec Div(Vec a, Vec b) { return _mm512_div_ps(a, b); }
  static Vec MulAdd(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
  // A NaN in `x` comes through.
  static Vec Max(Vec limit, Vec x) { return _mm512_max_ps(limit, x); }
  static Vec Min(Vec limit, Vec x) { return _mm512_min_ps(limit, x); }
  static Vec Round(Vec x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }

  static float LargestLane(Vec x) { return _mm512_reduce_max_ps(x); }

  // 2^n for whole n in -126 .. 127.
  static Vec PowerOfTwo(Vec n) {
    const __m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23));
  }

  // Lanes 0 .. count - 1 of x, `fill` in the others.
  static Vec KeepFirst(Vec x, int count, float fill) {
    return _mm512_mask_blend_ps(static_cast<__mmask16>((1U << count) - 1U), Set(fill), x);
  }

  // Widens 16 bfloat16.
  static Vec LoadBFloat16(const uint16_t* from) {
    const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
  }

  // Rounds to nearest even; NaN stays NaN.
  static void StoreBFloat16(uint16_t* to, Vec x) {
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded =
        _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    const __m512i high = _mm512_srli_epi32(_mm512_mask_blend_epi32(nan, rounded, quiet), 16);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(high));
  }

  // Sixteen pairs of bfloat16 as two vectors: the pairs' first and second halves.
  static void LoadBFloat16Pairs(const std::byte* from, Vec& first, Vec& second) {
    const __m512i pairs = _mm512_loadu_si512(from);
    first = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
    second = _mm512_castsi512_ps(
        _mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000U))));
  }
};

}  // namespace
}  // namespace phi::kernels
