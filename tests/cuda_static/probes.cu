// Instructions whose encodings sass.py has to know, one kind a kernel: what ptxas of this toolkit
// makes of them is what the gates then look for.
#include <cstdint>

namespace {

template <int kBytes>
__device__ void CopyAsync(char* shared, const char* global, int count) {
  const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  const uint32_t bytes = threadIdx.x < count ? kBytes : 0;
  if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(bytes)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to),
                 "l"(global),
                 "n"(kBytes),
                 "r"(bytes)
                 : "memory");
  }
  asm volatile("cp.async.wait_all;" ::: "memory");
}

template <int kBytes>
__device__ void Copy(const char* in, int count, int* out) {
  __shared__ __align__(16) char lines[16 * 32];
  CopyAsync<kBytes>(lines + kBytes * threadIdx.x, in + kBytes * threadIdx.x, count);
  __syncthreads();
  out[threadIdx.x] = lines[threadIdx.x];
}

// All four values are used: ptxas narrows a load of what is not.
__device__ float Load16(const uint4* from) {
  uint4 value;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(from));
  return __uint_as_float(value.x ^ value.y ^ value.z ^ value.w);
}

}  // namespace

extern "C" {

__global__ void copy_4(const char* in, int count, int* out) { Copy<4>(in, count, out); }
__global__ void copy_8(const char* in, int count, int* out) { Copy<8>(in, count, out); }
__global__ void copy_16(const char* in, int count, int* out) { Copy<16>(in, count, out); }

// Two wide loads and one narrow one a turn, two multiplications behind them; narrow loads around
// the loop.
__global__ void loop(const uint4* wide, const float* narrow, int count, float* out) {
  float sum = narrow[0] + narrow[count];
#pragma unroll 1
  for (int i = 0; i < count; ++i) {
    const float one = Load16(wide + 2 * i);
    const float two = Load16(wide + 2 * i + 1);
    sum = fmaf(two, narrow[i + 1], fmaf(one, narrow[i + 1], sum));
  }
  *out = sum + narrow[count + 1];
}

// Wide loads without a loop.
__global__ void straight(const uint4* wide, float* out) {
  *out = fmaf(Load16(wide), Load16(wide + 1), 1.0F);
}

}  // extern "C"
