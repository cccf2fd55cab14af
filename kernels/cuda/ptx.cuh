#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

// What C++ cannot say: the only file with PTX in it. tests/cuda_host gives each function a body of
// its own. Source: NVIDIA's PTX ISA, by the instruction named.
namespace phi::kernels::cuda::ptx {

#ifndef PHI_CUDA_HOST

// D(16x8, float32) += A(16x16, row-major) * B(16x8, column-major); T is __nv_bfloat16 or __half.
// With g = lane / 4 and t = lane % 4 a lane holds: a[0] = A[g][2t, 2t+1], a[1] = A[g+8][2t, 2t+1],
// a[2], a[3] the same 8 columns on; b[0] = B[2t, 2t+1][g], b[1] the same 8 rows down;
// d[0], d[1] = D[g][2t, 2t+1], d[2], d[3] = D[g+8][2t, 2t+1]. mma.m16n8k16.
template <typename T>
__device__ __forceinline__ void MmaM16N8K16(float (&d)[4],
                                            const uint32_t (&a)[4],
                                            const uint32_t (&b)[2]) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else {
    static_assert(std::is_same_v<T, __half>);
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
}

// Copies 16 bytes from global to shared memory, both 16-byte aligned, or writes zeros and reads
// nothing. Lands at the CopyAsyncWait of its group. cp.async.cg.
__device__ __forceinline__ void CopyAsync16OrZero(void* shared, const void* global, bool valid) {
  const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  const uint32_t bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(bytes)
               : "memory");
}

// Makes a group of this thread's copies so far. cp.async.commit_group.
__device__ __forceinline__ void CopyAsyncCommit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits until at most kPending of this thread's groups are under way; other threads may read after
// the next barrier. cp.async.wait_group.
template <int kPending>
__device__ __forceinline__ void CopyAsyncWait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// 16 aligned bytes that no kernel in flight writes and that are read once: weights.
// ld.global.nc.L1::no_allocate.v4.
__device__ __forceinline__ uint4 LoadStreaming16(const void* global) {
  uint4 value;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(global));
  return value;
}

// 16 aligned bytes that an earlier kernel wrote. ld.global.v4.
__device__ __forceinline__ uint4 LoadGlobal16(const void* global) {
  uint4 value;
  asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(global)
               : "memory");
  return value;
}

#endif  // PHI_CUDA_HOST

}  // namespace phi::kernels::cuda::ptx
