#pragma once

// Dynamic shared memory of the block, the only kind that kernels use: one call a kernel, cut up by
// offsets. tests/cuda_host has its own, of exactly the size that was asked for.
namespace phi::kernels::cuda {

#ifndef PHI_CUDA_HOST
template <typename T>
__device__ T* SharedMemory() {
  extern __shared__ __align__(16) unsigned char bytes[];
  return reinterpret_cast<T*>(bytes);
}
#endif

}  // namespace phi::kernels::cuda
