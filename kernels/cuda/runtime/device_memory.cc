#include "kernels/cuda/runtime/device_memory.h"

#include "absl/strings/str_format.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"
#include "kernels/cuda/runtime/handles.h"

namespace phi::kernels::cuda {

absl::StatusOr<std::unique_ptr<DeviceMemory>> DeviceMemory::Allocate(size_t bytes,
                                                                     cudaStream_t stream) {
  if (bytes == 0) return std::unique_ptr<DeviceMemory>(new DeviceMemory(nullptr, 0));
  void* data = nullptr;
  const cudaError_t error = cudaMalloc(&data, bytes);
  if (error != cudaSuccess) {
    static_cast<void>(cudaGetLastError());  // one that is returned again by the next launch
    return CudaStatus(error, absl::StrFormat("allocating %d bytes of device memory", bytes));
  }
  auto memory =
      std::unique_ptr<DeviceMemory>(new DeviceMemory(static_cast<std::byte*>(data), bytes));
  PHI_RETURN_IF_ERROR(CudaStatus(cudaMemsetAsync(data, 0, bytes, stream), "zeroing memory"));
  PHI_RETURN_IF_ERROR(CudaStatus(cudaStreamSynchronize(stream), "zeroing memory"));
  return memory;
}

DeviceMemory::~DeviceMemory() {
  if (data_ != nullptr) static_cast<void>(cudaFree(data_));
}

absl::Status DeviceMemory::Upload(const void* from,
                                  size_t bytes,
                                  size_t offset,
                                  cudaStream_t stream) {
  PHI_CHECK(offset <= bytes_ && bytes <= bytes_ - offset,
            "%zu bytes at %zu of %zu",
            bytes,
            offset,
            bytes_);
  if (bytes == 0) return absl::OkStatus();
  PHI_RETURN_IF_ERROR(
      CudaStatus(cudaMemcpyAsync(data_ + offset, from, bytes, cudaMemcpyHostToDevice, stream),
                 "copying to the device"));
  return CudaStatus(cudaStreamSynchronize(stream), "copying to the device");
}

}  // namespace phi::kernels::cuda
