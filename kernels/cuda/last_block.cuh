#pragma once

#include <cstdint>

namespace phi::kernels::cuda {

// Whether this block is the last one of its row of gridDim.x blocks, all of whose writes to global
// memory it then sees (NVIDIA's sample threadFenceReduction). All threads call it, after their
// writes; `ticket` is 0 before the first of the row and after the last; `is_last` is shared memory.
__device__ inline bool IsLastBlock(int32_t* ticket, int* is_last) {
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    const bool last = atomicAdd(ticket, 1) == static_cast<int>(gridDim.x) - 1;
    if (last) atomicExch(ticket, 0);  // for the next launch
    *is_last = last ? 1 : 0;
    __threadfence();
  }
  __syncthreads();
  return *is_last != 0;
}

}  // namespace phi::kernels::cuda
