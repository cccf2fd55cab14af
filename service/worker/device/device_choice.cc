#include "service/worker/device/device_choice.h"

#include <utility>

#include "absl/strings/str_format.h"

namespace phi::service {

absl::StatusOr<DeviceChoice> ChooseDevice(std::string_view flag,
                                          int world_size,
                                          const ListDevices& list) {
  DeviceChoice choice{.device = std::string(kCpuDevice), .devices = {}, .note = ""};
  if (flag == kCpuDevice) return choice;
  auto devices = list();
  if (!devices.ok()) {
    const auto why = std::string(devices.status().message());
    if (flag == kCudaDevice)
      return absl::Status(devices.status().code(), absl::StrFormat("--device=cuda: %s", why));
    choice.note = absl::StrFormat("--device=auto takes the CPU: %s", why);
    return choice;
  }
  if (devices->size() < static_cast<size_t>(world_size)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("--tensor_parallel=%d needs as many GPUs and there are %d; lower it, or "
                        "compute with --device=cpu",
                        world_size,
                        devices->size()));
  }
  choice.device = std::string(kCudaDevice);
  choice.devices = *std::move(devices);
  choice.devices.resize(static_cast<size_t>(world_size));
  return choice;
}

}  // namespace phi::service
