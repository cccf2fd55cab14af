#include <immintrin.h>

#include "kernels/cpu/make_kernel_table.h"
#include "kernels/cpu/simd_avx512.h"

namespace phi::kernels {
namespace {

// bfloat16 weights and operands multiplied as they are: vdpbf16ps adds the products of a pair to a
// float32 sum.
struct DotBFloat16Family {
  using Simd = Avx512;
  using Element = BFloat16Element<Simd>;
  using Operand = uint32_t;  // a pair, the first in the low half
  static constexpr int64_t kInputsPerStep = 2;
  struct Weights {
    __m512bh pairs;
  };

  static Operand PackOperand(const uint16_t* in, int64_t available) {
    const uint32_t second = available > 1 ? in[1] : 0U;
    return in[0] | (second << 16);
  }
  static Weights LoadWeights(const std::byte* from) { return {(__m512bh)_mm512_loadu_si512(from)}; }
  static Simd::Vec MultiplyAdd(const Operand& x, const Weights& w, Simd::Vec sum) {
    return _mm512_dpbf16_ps(sum, w.pairs, (__m512bh)_mm512_set1_epi32(static_cast<int>(x)));
  }
};

}  // namespace

constinit const KernelTable kAvx512Bf16BFloat16Kernels = MakeKernelTable<DotBFloat16Family>();

}  // namespace phi::kernels
