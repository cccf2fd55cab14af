#include "service/worker/device/device_choice.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "kernels/base/status_macros.h"

namespace phi::service {
namespace {

// Those that ranks can have; `problem` says why there are no more, where that is known.
absl::StatusOr<std::vector<kernels::CudaDevice>> ListUsable(const ListDevices& list,
                                                            std::string* problem) {
  PHI_ASSIGN_OR_RETURN(std::vector<kernels::CudaDevice> devices, list());
  const auto unusable = std::find_if(
      devices.begin(), devices.end(), [](const auto& device) { return !device.problem.empty(); });
  if (unusable == devices.end()) return devices;
  *problem = absl::StrFormat("%s; CUDA_VISIBLE_DEVICES can leave that one out", unusable->problem);
  if (unusable == devices.begin()) return absl::FailedPreconditionError(*problem);
  devices.erase(unusable, devices.end());
  return devices;
}

}  // namespace

absl::StatusOr<DeviceChoice> ChooseDevice(std::string_view flag,
                                          int world_size,
                                          const ListDevices& list) {
  DeviceChoice choice{.device = std::string(kCpuDevice), .devices = {}, .note = ""};
  if (flag == kCpuDevice) return choice;
  std::string problem;
  auto devices = ListUsable(list, &problem);
  if (!devices.ok()) {
    const auto why = std::string(devices.status().message());
    if (flag == kCudaDevice)
      return absl::Status(devices.status().code(), absl::StrFormat("--device=cuda: %s", why));
    choice.note = absl::StrFormat("--device=auto takes the CPU: %s", why);
    return choice;
  }
  if (devices->size() < static_cast<size_t>(world_size)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("--tensor_parallel=%d needs as many GPUs and there are %d%s; lower it, or "
                        "compute with --device=cpu",
                        world_size,
                        devices->size(),
                        problem.empty() ? "" : absl::StrFormat(" (%s)", problem)));
  }
  choice.device = std::string(kCudaDevice);
  choice.devices = *std::move(devices);
  choice.devices.resize(static_cast<size_t>(world_size));
  return choice;
}

}  // namespace phi::service
