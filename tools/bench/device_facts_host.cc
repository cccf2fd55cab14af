#include "tests/cuda_host/harness.h"
#include "tools/bench/device_facts.h"

namespace phi::bench {

DeviceFacts GetDeviceFacts() {
  return {.is_emulated = true, .name = "host harness, no GPU", .bytes_per_second = 0};
}

std::optional<StepCounts> TakeStepCounts() {
  const cuda_host::DeviceCounts counts = cuda_host::TakeCounts(0);
  StepCounts step = {.launches = counts.launches(), .collectives = counts.collectives};
  for (const auto& [name, count] : counts.kernels) step.bytes_read += count.bytes_read;
  return step;
}

}  // namespace phi::bench
