#pragma once

// Included before every .cu of the host build (g++ -x c++ -include): what nvcc knows by itself, and
// the host bodies of the headers of kernels/cuda that stand aside under PHI_CUDA_HOST.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <type_traits>
#include <utility>

#include "tests/cuda_host/atomics.h"
#include "tests/cuda_host/device_math.h"
#include "tests/cuda_host/grid.h"
#include "tests/cuda_host/harness.h"
#include "tests/cuda_host/ptx.h"
#include "tests/cuda_host/warp.h"

#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __global__
#define __global__
#undef __device__
#define __device__
#undef __host__
#define __host__
#undef __forceinline__
#define __forceinline__ inline

#define threadIdx (::phi::cuda_host::ThreadIndex({__FILE__, __LINE__}))
#define blockIdx (::phi::cuda_host::current_thread->block->index)
// No macros: cudaLaunchConfig_t has members of these names.
extern __thread uint3 blockDim;
extern __thread uint3 gridDim;

namespace phi::cuda_host {

// Makes `kernel` known to cudaLaunchKernelExC, which gets no types.
template <typename... Params>
void RegisterKernel(const char* name, void (*kernel)(Params...)) {
  static constexpr size_t kSizes[] = {sizeof(Params)..., 0};
  const auto call = [](const void* function, void** arguments) {
    [&]<size_t... kIndex>(std::index_sequence<kIndex...>) {
      reinterpret_cast<void (*)(Params...)>(reinterpret_cast<uintptr_t>(function))(
          *static_cast<std::remove_cv_t<Params>*>(arguments[kIndex])...);
    }
    (std::index_sequence_for<Params...>());
  };
  RegisterKernelEntry(reinterpret_cast<const void*>(kernel),
                      {.name = name, .call = call, .sizes = kSizes, .count = sizeof...(Params)});
}

}  // namespace phi::cuda_host

namespace phi::kernels::cuda {

namespace host = ::phi::cuda_host;

template <typename T>
T* SharedMemory() {
  return reinterpret_cast<T*>(host::current_thread->block->shared);
}

}  // namespace phi::kernels::cuda
