// cudart: memory and copies.
#include <cuda_runtime_api.h>

#include <cstdlib>
#include <cstring>

#include "tests/cuda_host/grid.h"
#include "tests/cuda_host/streams.h"

#if defined(PHI_CUDA_HOST_ASAN)
#include <sanitizer/asan_interface.h>
#endif

namespace phi::cuda_host {
namespace {

constexpr size_t kAlignment = 256;  // what cudaMalloc promises

using Allocations = std::map<const std::byte*, size_t>;

std::byte* Reserve(Allocations& allocations, size_t bytes) {
  void* memory = nullptr;
  if (posix_memalign(&memory, kAlignment, bytes) != 0) return nullptr;
  std::memset(memory, 0xff, bytes);  // NaN in every type that we have
  auto* const start = static_cast<std::byte*>(memory);
  allocations[start + bytes] = bytes;
  return start;
}

// Forgets the allocation that starts at `pointer`; its size, or 0.
size_t Forget(Allocations& allocations, const void* pointer) {
  for (auto it = allocations.begin(); it != allocations.end(); ++it) {
    if (it->first - it->second != pointer) continue;
    const size_t bytes = it->second;
    allocations.erase(it);
    return bytes;
  }
  return 0;
}

// One end of a copy.
bool Addressable(const Device& device, const void* pointer, size_t bytes, bool on_device) {
  if (on_device) return device.memory.ContainsDevice(pointer, bytes);
  return !device.memory.ContainsDevice(pointer, 1);
}

bool DirectionFits(
    const Device& device, const void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  if (kind == cudaMemcpyDefault) return true;
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  return Addressable(device, to, bytes, to_device) && Addressable(device, from, bytes, from_device);
}

class CopyOperation : public Operation {
 public:
  CopyOperation(void* to, const void* from, size_t bytes) : to_(to), from_(from), bytes_(bytes) {}
  bool Run(Device& /*device*/) override {
    std::memcpy(to_, from_, bytes_);
    return true;
  }
  std::unique_ptr<Operation> Clone() const override {
    return std::make_unique<CopyOperation>(*this);
  }
  void Retire(Device& device) override { ++device.counts.copies; }

 private:
  void* to_;
  const void* from_;
  size_t bytes_;
};

class SetOperation : public Operation {
 public:
  SetOperation(void* to, int value, size_t bytes) : to_(to), value_(value), bytes_(bytes) {}
  bool Run(Device& /*device*/) override {
    std::memset(to_, value_, bytes_);
    return true;
  }
  std::unique_ptr<Operation> Clone() const override {
    return std::make_unique<SetOperation>(*this);
  }

 private:
  void* to_;
  int value_;
  size_t bytes_;
};

// A copy to host memory that is not page-locked returns when it is done, whatever its name says
// ("API synchronization behavior" of the runtime's reference).
bool Blocks(const Device& device, const void* to, const void* from, const CUstream_st& stream) {
  return device.memory.ContainsDevice(from, 1) && !device.memory.ContainsDevice(to, 1) &&
         !device.memory.ContainsHost(to, 1) && stream.capture == nullptr;
}

// Runs at once, as the synchronous calls do, which wait for no stream of ours.
template <typename Body>
cudaError_t RunNow(Device& device, Body body) {
  if (device.sticky != cudaSuccess) return Remember(device.sticky);
  device.memory.Allow();
  body();
  device.memory.Forbid();
  return cudaSuccess;
}

cudaError_t AllocateHost(void** pointer, size_t bytes) {
  Device& device = CurrentDevice();
  const std::lock_guard lock(device.mutex);
  if (bytes == 0) {
    *pointer = nullptr;
    return cudaSuccess;
  }
  *pointer = Reserve(device.memory.host, bytes);
  return *pointer == nullptr ? Remember(cudaErrorMemoryAllocation) : cudaSuccess;
}

}  // namespace
}  // namespace phi::cuda_host

using phi::cuda_host::CurrentDevice;
using phi::cuda_host::Device;
using phi::cuda_host::InjectedError;
using phi::cuda_host::Remember;
using phi::cuda_host::SpoilsRecording;

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  if (SpoilsRecording()) return Remember(cudaErrorStreamCaptureUnsupported);
  if (const int error = InjectedError("cudaMalloc"); error != 0) {
    return Remember(static_cast<cudaError_t>(error));
  }
  Device& device = CurrentDevice();
  const std::lock_guard lock(device.mutex);
  if (device.sticky != cudaSuccess) return Remember(device.sticky);
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  const size_t limit = phi::cuda_host::CurrentSettings().memory_bytes;
  if (bytes > limit - device.memory.device_bytes) return Remember(cudaErrorMemoryAllocation);
  *pointer = phi::cuda_host::Reserve(device.memory.device, bytes);
  if (*pointer == nullptr) return Remember(cudaErrorMemoryAllocation);
  device.memory.device_bytes += bytes;
  device.memory.Forbid();
  return cudaSuccess;
}

cudaError_t cudaFree(void* pointer) {
  if (SpoilsRecording()) return Remember(cudaErrorStreamCaptureUnsupported);
  Device& device = CurrentDevice();
  const std::lock_guard lock(device.mutex);
  if (pointer == nullptr) return cudaSuccess;
  // cudaFree waits for the device.
  const cudaError_t waited = phi::cuda_host::WaitFor(device, nullptr);
  const size_t bytes = phi::cuda_host::Forget(device.memory.device, pointer);
  if (bytes == 0) return Remember(cudaErrorInvalidValue);
#if defined(PHI_CUDA_HOST_ASAN)
  __asan_unpoison_memory_region(pointer, bytes);
#endif
  device.memory.device_bytes -= bytes;
  std::free(pointer);
  return waited;
}

cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
  if (SpoilsRecording()) return Remember(cudaErrorStreamCaptureUnsupported);
  if (const int error = InjectedError("cudaMallocHost"); error != 0) {
    return Remember(static_cast<cudaError_t>(error));
  }
  return phi::cuda_host::AllocateHost(pointer, bytes);
}

cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned int /*flags*/) {
  return cudaMallocHost(pointer, bytes);
}

cudaError_t cudaFreeHost(void* pointer) {
  if (SpoilsRecording()) return Remember(cudaErrorStreamCaptureUnsupported);
  if (pointer == nullptr) return cudaSuccess;
  // Whichever device's thread took it: host memory is everybody's.
  for (int i = 0; i < phi::cuda_host::kNumDevices; ++i) {
    Device& device = phi::cuda_host::GetDevice(i);
    const std::lock_guard lock(device.mutex);
    if (phi::cuda_host::Forget(device.memory.host, pointer) == 0) continue;
    phi::cuda_host::WaitFor(device, nullptr);
    std::free(pointer);
    return cudaSuccess;
  }
  return Remember(cudaErrorInvalidValue);
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  Device& device = CurrentDevice();
  const std::lock_guard lock(device.mutex);
  *total_bytes = phi::cuda_host::CurrentSettings().memory_bytes;
  *free_bytes = *total_bytes - device.memory.device_bytes;
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  if (SpoilsRecording()) return Remember(cudaErrorStreamCaptureUnsupported);
  if (const int error = InjectedError("cudaMemcpy"); error != 0) {
    return Remember(static_cast<cudaError_t>(error));
  }
  Device& device = CurrentDevice();
  const std::lock_guard lock(device.mutex);
  if (bytes == 0) return cudaSuccess;
  if (!phi::cuda_host::DirectionFits(device, to, from, bytes, kind)) {
    return Remember(cudaErrorInvalidValue);
  }
  return phi::cuda_host::RunNow(device, [&] { std::memcpy(to, from, bytes); });
}

cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  if (SpoilsRecording()) return Remember(cudaErrorStreamCaptureUnsupported);
  Device& device = CurrentDevice();
  const std::lock_guard lock(device.mutex);
  if (bytes == 0) return cudaSuccess;
  if (!device.memory.ContainsDevice(to, bytes)) return Remember(cudaErrorInvalidValue);
  return phi::cuda_host::RunNow(device, [&] { std::memset(to, value, bytes); });
}

cudaError_t cudaMemcpyAsync(
    void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  if (const int error = InjectedError("cudaMemcpyAsync"); error != 0) {
    return Remember(static_cast<cudaError_t>(error));
  }
  Device& device = CurrentDevice();
  const std::lock_guard lock(device.mutex);
  if (bytes == 0) return cudaSuccess;
  if (!phi::cuda_host::DirectionFits(device, to, from, bytes, kind)) {
    return Remember(cudaErrorInvalidValue);
  }
  const cudaError_t queued =
      Enqueue(stream, std::make_unique<phi::cuda_host::CopyOperation>(to, from, bytes));
  if (queued != cudaSuccess || !phi::cuda_host::Blocks(device, to, from, *stream)) return queued;
  return phi::cuda_host::WaitFor(device, stream);
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  Device& device = CurrentDevice();
  const std::lock_guard lock(device.mutex);
  if (bytes == 0) return cudaSuccess;
  if (!device.memory.ContainsDevice(to, bytes)) return Remember(cudaErrorInvalidValue);
  return Enqueue(stream, std::make_unique<phi::cuda_host::SetOperation>(to, value, bytes));
}
