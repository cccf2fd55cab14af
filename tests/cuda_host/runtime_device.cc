// cudart: devices and errors.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstring>
#include <utility>

#include "tests/cuda_host/streams.h"

namespace phi::cuda_host {
namespace {

thread_local cudaError_t last_error = cudaSuccess;

bool IsOld(int device) { return device >= CurrentSettings().old_devices_from; }

}  // namespace

cudaError_t Remember(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

}  // namespace phi::cuda_host

using phi::cuda_host::CurrentDevice;
using phi::cuda_host::CurrentSettings;
using phi::cuda_host::InjectedError;
using phi::cuda_host::kNumDevices;
using phi::cuda_host::Remember;

cudaError_t cudaGetDeviceCount(int* count) {
  if (const int error = InjectedError("cudaGetDeviceCount"); error != 0) {
    *count = 0;
    return Remember(static_cast<cudaError_t>(error));
  }
  *count = kNumDevices;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  if (const int error = InjectedError("cudaSetDevice"); error != 0) {
    return Remember(static_cast<cudaError_t>(error));
  }
  if (device < 0 || device >= kNumDevices) return Remember(cudaErrorInvalidDevice);
  phi::cuda_host::SetCurrentDevice(device);
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = CurrentDevice().ordinal;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  if (const int error = InjectedError("cudaDriverGetVersion"); error != 0) {
    return Remember(static_cast<cudaError_t>(error));
  }
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device < 0 || device >= kNumDevices) return Remember(cudaErrorInvalidDevice);
  std::memset(properties, 0, sizeof(*properties));
  std::snprintf(properties->name, sizeof(properties->name), "host harness (no GPU)");
  const bool is_old = phi::cuda_host::IsOld(device);
  const phi::cuda_host::Chip chip = phi::cuda_host::CurrentChip();
  properties->major = is_old ? 7 : CurrentSettings().compute_major;
  properties->minor = is_old ? 0 : CurrentSettings().compute_minor;
  properties->totalGlobalMem = CurrentSettings().memory_bytes;
  properties->multiProcessorCount = chip.num_processors;
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = 1024;
  properties->maxThreadsPerMultiProcessor = 2048;
  properties->sharedMemPerBlock = 48 * 1024;
  properties->sharedMemPerBlockOptin = static_cast<size_t>(chip.block_shared_bytes);
  properties->sharedMemPerMultiprocessor = static_cast<size_t>(chip.processor_shared_bytes);
  properties->regsPerBlock = 65536;
  properties->regsPerMultiprocessor = 65536;
  properties->l2CacheSize = 50 << 20;
  properties->unifiedAddressing = 1;
  properties->canMapHostMemory = 1;
  properties->asyncEngineCount = 3;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (device < 0 || device >= kNumDevices) return Remember(cudaErrorInvalidDevice);
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor:
      *value = phi::cuda_host::IsOld(device) ? 7 : CurrentSettings().compute_major;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = phi::cuda_host::IsOld(device) ? 0 : CurrentSettings().compute_minor;
      return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
      *value = phi::cuda_host::CurrentChip().num_processors;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = phi::cuda_host::CurrentChip().block_shared_bytes;
      return cudaSuccess;
    default:
      return Remember(cudaErrorNotSupported);
  }
}

cudaError_t cudaGetLastError() {
  const cudaError_t sticky = CurrentDevice().sticky;
  const cudaError_t last = std::exchange(phi::cuda_host::last_error, sticky);
  return last;
}

cudaError_t cudaPeekAtLastError() { return phi::cuda_host::last_error; }

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorInsufficientDriver:
      return "cudaErrorInsufficientDriver";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorInvalidDeviceFunction:
      return "cudaErrorInvalidDeviceFunction";
    case cudaErrorInvalidResourceHandle:
      return "cudaErrorInvalidResourceHandle";
    case cudaErrorNotReady:
      return "cudaErrorNotReady";
    case cudaErrorIllegalAddress:
      return "cudaErrorIllegalAddress";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    case cudaErrorNotSupported:
      return "cudaErrorNotSupported";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated:
      return "cudaErrorStreamCaptureInvalidated";
    default:
      return "cudaError";
  }
}

const char* cudaGetErrorString(cudaError_t error) { return cudaGetErrorName(error); }
