#pragma once

#include <cuda_runtime_api.h>

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_format.h"
#include "kernels/base/status_macros.h"
#include "kernels/cuda/runtime/handles.h"

namespace phi::kernels::cuda {

// "sm_90".
inline std::string InstructionSetOf(const cudaDeviceProp& properties) {
  return absl::StrFormat("sm_%d%d", properties.major, properties.minor);
}

// FAILED_PRECONDITION where there is no such device or one older than sm_80.
inline absl::StatusOr<cudaDeviceProp> SupportedDevice(int device) {
  cudaDeviceProp properties{};
  PHI_RETURN_IF_ERROR(
      CudaStatus(cudaGetDeviceProperties(&properties, device), "reading the device's properties"));
  if (properties.major < 8) {
    return absl::FailedPreconditionError(
        absl::StrFormat("%s is of compute capability %d.%d, and 8.0 is the oldest supported",
                        properties.name,
                        properties.major,
                        properties.minor));
  }
  return properties;
}

}  // namespace phi::kernels::cuda
