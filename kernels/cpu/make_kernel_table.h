#pragma once

#include "kernels/cpu/attention_kernels.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/norm_kernels.h"
#include "kernels/cpu/product_kernels.h"

namespace phi::kernels {
namespace {

template <class Family>
constexpr KernelTable MakeKernelTable() {
  using Simd = typename Family::Simd;
  using Element = typename Family::Element;
  return {.pack_operands = PackOperands<Family>,
          .multiply = Multiply<Family>,
          .normalize = Normalize<Element, Simd>,
          .attend = Attend<Element, Simd>,
          .packed_row_bytes = PackedRowBytes<Family>};
}

}  // namespace
}  // namespace phi::kernels
