#include <cuda_runtime_api.h>

#include "tools/bench/device_facts.h"

namespace phi::bench {

DeviceFacts GetDeviceFacts() {
  cudaDeviceProp properties{};
  int kilohertz = 0;
  int bits = 0;
  if (cudaGetDeviceProperties(&properties, 0) != cudaSuccess) return {};
  // Newer drivers may not tell the clock: then nothing is held against the device's own bandwidth.
  if (cudaDeviceGetAttribute(&kilohertz, cudaDevAttrMemoryClockRate, 0) != cudaSuccess ||
      cudaDeviceGetAttribute(&bits, cudaDevAttrGlobalMemoryBusWidth, 0) != cudaSuccess) {
    kilohertz = bits = 0;
  }
  // Two transfers a clock.
  return {.name = properties.name, .bytes_per_second = 2.0 * kilohertz * 1e3 * bits / 8};
}

std::optional<StepCounts> TakeStepCounts() { return std::nullopt; }

}  // namespace phi::bench
