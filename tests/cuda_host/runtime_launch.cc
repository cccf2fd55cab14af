// cudart: kernels, with the limits of the device.
#include <cuda_runtime_api.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "tests/cuda_host/grid.h"
#include "tests/cuda_host/streams.h"

namespace phi::cuda_host {
namespace {

constexpr unsigned kMaxThreads = 1024;
constexpr unsigned kMaxGridYz = 65535;
constexpr size_t kDefaultSharedBytes = 48 * 1024;

struct Kernels {
  std::mutex mutex;
  std::map<const void*, KernelEntry> entries;
  std::map<const void*, int> shared_limits;  // by cudaFuncSetAttribute
};

Kernels& TheKernels() {
  static Kernels kernels;
  return kernels;
}

// Nothing of ours lies below 2^45, but the sanitizers' shadow does, where two small integers side
// by side may point to.
bool IsMapped(uint64_t address) {
  const uint64_t page = address & ~uint64_t{4095};
  return address >= uint64_t{1} << 45 && address < uint64_t{1} << 47 &&
         msync(reinterpret_cast<void*>(page), 1, MS_ASYNC) == 0;
}

// A kernel's parameters are opaque: any eight bytes that are an address of this process have to be
// one that the device can reach.
void CheckParameters(const Device& device,
                     const char* name,
                     const std::byte* parameter,
                     size_t bytes) {
  for (size_t offset = 0; offset + 8 <= bytes; offset += 8) {
    uint64_t word = 0;
    std::memcpy(&word, parameter + offset, 8);
    const auto* const pointer = reinterpret_cast<const std::byte*>(word);
    // Just past the end is fine, as it is for an empty range.
    const auto reachable = [&](const std::byte* at) {
      return device.memory.ContainsDevice(at, 1) || device.memory.ContainsHost(at, 1);
    };
    if (!IsMapped(word) || reachable(pointer) || reachable(pointer - 1)) continue;
    Die("kernel %s gets %p, which is memory of the host or of another device",
        name,
        static_cast<const void*>(pointer));
  }
}

class KernelOperation : public Operation {
 public:
  KernelOperation(const void* kernel,
                  const KernelEntry& entry,
                  const cudaLaunchConfig_t& config,
                  void** arguments)
      : kernel_(kernel), entry_(entry), config_(config), parameters_(entry.count) {
    for (size_t i = 0; i < entry.count; ++i) {
      // A block of 16-byte units for each, so that it is aligned for any type.
      parameters_[i].resize((entry.sizes[i] + sizeof(Unit) - 1) / sizeof(Unit));
      std::memcpy(parameters_[i].data(), arguments[i], entry.sizes[i]);
    }
  }

  bool Run(Device& device) override {
    if (const int error = InjectedError("kernel"); error != 0) {
      device.sticky = static_cast<cudaError_t>(error);
      return true;
    }
    std::vector<void*> arguments(entry_.count + 1);
    for (size_t i = 0; i < entry_.count; ++i) arguments[i] = parameters_[i].data();
    GridRun run = {.name = entry_.name,
                   .grid = config_.gridDim,
                   .block = config_.blockDim,
                   .shared_bytes = config_.dynamicSmemBytes,
                   .call = entry_.call,
                   .kernel = kernel_,
                   .arguments = arguments.data(),
                   .seed = device.random(),
                   .memory = &device.memory,
                   .is_device_memory = [](const void* memory, const void* pointer, size_t bytes) {
                     const auto& all = *static_cast<const DeviceMemory*>(memory);
                     return all.ContainsDevice(pointer, bytes) || all.ContainsHost(pointer, bytes);
                   }};
    RunGrid(run);
    bytes_read_ = run.bytes_read;
    return true;
  }

  std::unique_ptr<Operation> Clone() const override {
    return std::make_unique<KernelOperation>(*this);
  }

  void Retire(Device& device) override {
    KernelCount& count = device.counts.kernels[entry_.name];
    ++count.launches;
    count.bytes_read += bytes_read_;
  }

 private:
  struct alignas(16) Unit {
    std::byte bytes[16];
  };
  const void* kernel_;
  KernelEntry entry_;
  cudaLaunchConfig_t config_;
  std::vector<std::vector<Unit>> parameters_;
  uint64_t bytes_read_ = 0;
};

cudaError_t CheckLimits(const cudaLaunchConfig_t& config, int shared_limit) {
  const dim3& grid = config.gridDim;
  const dim3& block = config.blockDim;
  if (config.numAttrs != 0) return cudaErrorNotSupported;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffU || grid.y > kMaxGridYz ||
      grid.z > kMaxGridYz || block.x == 0 || block.y == 0 || block.z == 0) {
    return cudaErrorInvalidConfiguration;
  }
  if (uint64_t{block.x} * block.y * block.z > kMaxThreads || block.z > 64) {
    return cudaErrorInvalidConfiguration;
  }
  const size_t most = std::max(kDefaultSharedBytes, static_cast<size_t>(shared_limit));
  return config.dynamicSmemBytes > most ? cudaErrorInvalidValue : cudaSuccess;
}

}  // namespace

void RegisterKernelEntry(const void* kernel, const KernelEntry& entry) {
  const std::lock_guard lock(TheKernels().mutex);
  TheKernels().entries.insert_or_assign(kernel, entry);
}

}  // namespace phi::cuda_host

using phi::cuda_host::Device;
using phi::cuda_host::InjectedError;
using phi::cuda_host::Remember;

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config,
                                const void* kernel,
                                void** arguments) {
  if (const int error = InjectedError("cudaLaunchKernelExC"); error != 0) {
    return Remember(static_cast<cudaError_t>(error));
  }
  auto& kernels = phi::cuda_host::TheKernels();
  phi::cuda_host::KernelEntry entry;
  int shared_limit = 0;
  {
    const std::lock_guard lock(kernels.mutex);
    const auto found = kernels.entries.find(kernel);
    if (found == kernels.entries.end()) return Remember(cudaErrorInvalidDeviceFunction);
    entry = found->second;
    shared_limit = kernels.shared_limits[kernel];
  }
  const cudaError_t limits = phi::cuda_host::CheckLimits(*config, shared_limit);
  if (limits != cudaSuccess) return Remember(limits);
  Device& device = phi::cuda_host::CurrentDevice();
  const std::lock_guard lock(device.mutex);
  for (size_t i = 0; i < entry.count; ++i) {
    phi::cuda_host::CheckParameters(
        device, entry.name, static_cast<const std::byte*>(arguments[i]), entry.sizes[i]);
  }
  return Enqueue(
      config->stream,
      std::make_unique<phi::cuda_host::KernelOperation>(kernel, entry, *config, arguments));
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) {
    return attribute == cudaFuncAttributePreferredSharedMemoryCarveout
               ? cudaSuccess
               : Remember(cudaErrorNotSupported);
  }
  if (value < 0 || value > phi::cuda_host::CurrentChip().block_shared_bytes) {
    return Remember(cudaErrorInvalidValue);
  }
  const std::lock_guard lock(phi::cuda_host::TheKernels().mutex);
  phi::cuda_host::TheKernels().shared_limits[kernel] = value;
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks,
                                                          const void* /*kernel*/,
                                                          int block_size,
                                                          size_t shared_bytes) {
  const int by_threads = 2048 / std::max(block_size, 1);
  const auto shared = static_cast<size_t>(phi::cuda_host::CurrentChip().processor_shared_bytes);
  const int by_shared = shared_bytes == 0 ? 32 : static_cast<int>(shared / (shared_bytes + 1024));
  *blocks = std::min({32, by_threads, by_shared});
  return cudaSuccess;
}
