#pragma once

#include <cstdint>
#include <optional>
#include <string>

// What gpu_bench knows of device 0: device_facts_gpu.cc asks the driver, device_facts_host.cc the
// host harness.
namespace phi::bench {

struct DeviceFacts {
  bool is_emulated = false;  // times mean nothing, and steps are counted
  std::string name;
  double bytes_per_second = 0;  // of its memory, by clock and width; 0 where unknown
};
DeviceFacts GetDeviceFacts();

struct StepCounts {
  uint64_t launches = 0;
  uint64_t bytes_read = 0;
  uint64_t collectives = 0;
};
// What the device has done since the last call; nothing where nobody counts.
std::optional<StepCounts> TakeStepCounts();

}  // namespace phi::bench
