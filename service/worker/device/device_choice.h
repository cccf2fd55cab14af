#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/cuda/cuda_devices.h"

namespace phi::service {

// Where a replica's ranks compute, as --device, the log and phi_model_info name it.
inline constexpr std::string_view kCpuDevice = "cpu";
inline constexpr std::string_view kCudaDevice = "cuda";

struct DeviceChoice {
  std::string device;                        // one of the two
  std::vector<kernels::CudaDevice> devices;  // with CUDA: rank r's is devices[r]
  std::string note;                          // empty, or why auto did not take CUDA

  bool is_cuda() const { return device == kCudaDevice; }
};

using ListDevices = std::function<absl::StatusOr<std::vector<kernels::CudaDevice>>()>;

// What --device=`flag` (auto, cpu or cuda) comes to; `list` is not called for cpu. Ranks can have
// the GPUs before the first one with a problem; where that is the very first, there is none. One
// line where CUDA was asked for and cannot be had, and where there are GPUs but fewer than ranks,
// which auto does not pass over either: INVALID_ARGUMENT, FAILED_PRECONDITION or what `list`
// returned.
absl::StatusOr<DeviceChoice> ChooseDevice(std::string_view flag,
                                          int world_size,
                                          const ListDevices& list);

}  // namespace phi::service
