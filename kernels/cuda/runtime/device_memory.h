#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace phi::kernels::cuda {

// Memory of one GPU, zeroed.
class DeviceMemory final : public DeviceBuffer {
 public:
  // RESOURCE_EXHAUSTED with the bytes when the device has no more. Zeroing is queued on `stream`
  // and waited for.
  static absl::StatusOr<std::unique_ptr<DeviceMemory>> Allocate(size_t bytes, cudaStream_t stream);
  ~DeviceMemory() override;
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  std::byte* data() override { return data_; }
  const std::byte* data() const { return data_; }
  size_t bytes() const override { return bytes_; }

  // Copies `bytes` of host memory to `offset`; queued on `stream` and waited for.
  absl::Status Upload(const void* from, size_t bytes, size_t offset, cudaStream_t stream);

 private:
  DeviceMemory(std::byte* data, size_t bytes) : data_(data), bytes_(bytes) {}

  std::byte* data_;
  size_t bytes_;
};

}  // namespace phi::kernels::cuda
