#pragma once

// Host bodies of kernels/cuda/ptx.cuh, after the PTX ISA. Memory is touched here, in the kernel's
// own file, so that the sanitizers see it as the CUDA thread's access.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <vector_types.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "tests/cuda_host/grid.h"
#include "tests/cuda_host/warp.h"

namespace phi::cuda_host {

struct MmaOperand {
  float* d;
  const uint32_t* a;
  const uint32_t* b;
  bool bfloat16;
};
void MultiplyFragments(void* const operands[kWarp], unsigned mask);

}  // namespace phi::cuda_host

namespace phi::kernels::cuda::ptx {

template <typename T>
void MmaM16N8K16(float (&d)[4],
                 const uint32_t (&a)[4],
                 const uint32_t (&b)[2],
                 PHI_CUDA_HOST_CALLER) {
  static_assert(std::is_same_v<T, __nv_bfloat16> || std::is_same_v<T, __half>);
  cuda_host::MmaOperand operand = {
      .d = d, .a = a, .b = b, .bfloat16 = std::is_same_v<T, __nv_bfloat16>};
  cuda_host::WarpOperation(
      0xffffffffU, &cuda_host::MultiplyFragments, &operand, {file, line}, /*orders_memory=*/false);
}

// A copy lands at its wait and not before; until then the destination is NaN.
inline void CopyAsync16OrZero(void* shared, const void* global, bool valid, PHI_CUDA_HOST_CALLER) {
  cuda_host::StartCopy(shared, valid ? global : nullptr, {file, line});
  std::memset(shared, 0xff, 16);
}
inline void CopyAsyncCommit() { cuda_host::CommitCopies(); }

template <int kPending>
void CopyAsyncWait() {
  cuda_host::PendingCopy copy;
  while (cuda_host::NextCopyToLand(kPending, &copy)) {
    if (copy.from == nullptr) {
      std::memset(copy.to, 0, 16);
    } else {
      std::memcpy(copy.to, copy.from, 16);
    }
  }
}

inline uint4 LoadGlobal16(const void* global, PHI_CUDA_HOST_CALLER) {
  cuda_host::CheckGlobal16(global, {file, line}, /*count=*/true);
  uint4 value;
  std::memcpy(&value, global, sizeof(value));
  return value;
}
inline uint4 LoadStreaming16(const void* global, PHI_CUDA_HOST_CALLER) {
  return LoadGlobal16(global, file, line);
}

}  // namespace phi::kernels::cuda::ptx
