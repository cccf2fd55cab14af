#include "kernels/cuda/cuda_devices.h"

#include <cuda_runtime_api.h>

#include <algorithm>

#include "absl/strings/str_format.h"
#include "kernels/base/status_macros.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/runtime/device_properties.h"
#include "kernels/cuda/runtime/handles.h"

namespace phi::kernels {
namespace {

absl::StatusOr<CudaDevice> Describe(int index) {
  PHI_ASSIGN_OR_RETURN(const cudaDeviceProp properties, cuda::SupportedDevice(index));
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  PHI_RETURN_IF_ERROR(cuda::CudaStatus(cudaSetDevice(index), "opening a GPU"));
  PHI_RETURN_IF_ERROR(
      cuda::CudaStatus(cudaMemGetInfo(&free_bytes, &total_bytes), "reading a GPU's memory"));
  return CudaDevice{.name = properties.name,
                    .instruction_set = cuda::InstructionSetOf(properties),
                    .free_bytes = free_bytes - std::min(free_bytes, CudaScratchBytes()),
                    .problem = ""};
}

}  // namespace

absl::StatusOr<std::vector<CudaDevice>> ListCudaDevices() {
  // Without it the driver's absence reads "driver version is insufficient".
  int driver = 0;
  PHI_RETURN_IF_ERROR(cuda::CudaStatus(cudaDriverGetVersion(&driver), "looking for GPUs"));
  if (driver == 0) return absl::FailedPreconditionError("there is no NVIDIA driver");
  int count = 0;
  PHI_RETURN_IF_ERROR(cuda::CudaStatus(cudaGetDeviceCount(&count), "looking for GPUs"));
  if (count == 0) return absl::FailedPreconditionError("there is no GPU");
  std::vector<CudaDevice> devices;
  for (int index = 0; index < count; ++index) {
    auto device = Describe(index);
    if (device.ok()) {
      devices.push_back(*std::move(device));
    } else {
      devices.emplace_back().problem =
          absl::StrFormat("GPU %d: %s", index, std::string(device.status().message()));
    }
  }
  return devices;
}

uint64_t FreeCudaBytes(int device) {
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  if (cudaSetDevice(device) != cudaSuccess) return 0;
  return cudaMemGetInfo(&free_bytes, &total_bytes) == cudaSuccess ? free_bytes : 0;
}

bool IsCudaBuilt() { return true; }

}  // namespace phi::kernels
