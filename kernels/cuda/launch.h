#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <type_traits>

// The only way in which kernels are started: kernel<<<>>> exists for nvcc alone, and
// tests/cuda_host runs the same sources by the host's compiler. Included by .cu files only.
namespace phi::kernels::cuda {

struct LaunchConfig {
  const char* name;  // the kernel's, a string literal
  dim3 grid;
  dim3 block;
  size_t shared_bytes = 0;
  cudaStream_t stream = nullptr;
};

// Queues kernel(args...) on config.stream. An error is that of the launch, not of the kernel.
template <typename... Params>
cudaError_t Launch(const LaunchConfig& config,
                   void (*kernel)(Params...),
                   std::type_identity_t<Params>... args) {
  static_assert((std::is_trivially_copyable_v<Params> && ...));
#ifdef PHI_CUDA_HOST
  host::RegisterKernel(config.name, kernel);
#endif
  const cudaLaunchConfig_t launch = {
      config.grid, config.block, config.shared_bytes, config.stream, nullptr, 0};
  void* pointers[] = {static_cast<void*>(&args)..., nullptr};
  return cudaLaunchKernelExC(&launch, reinterpret_cast<const void*>(kernel), pointers);
}

// The most dynamic shared memory that a kernel may have without asking.
inline constexpr size_t kDefaultSharedBytes = 48 * 1024;

// Lets `kernel` have `bytes` of dynamic shared memory; needed above kDefaultSharedBytes, and cheap.
template <typename... Params>
cudaError_t AllowSharedBytes(void (*kernel)(Params...), size_t bytes) {
  if (bytes <= kDefaultSharedBytes) return cudaSuccess;
  return cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                              cudaFuncAttributeMaxDynamicSharedMemorySize,
                              static_cast<int>(bytes));
}

}  // namespace phi::kernels::cuda
