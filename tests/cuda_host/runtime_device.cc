// cudart: devices and errors.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstring>
#include <utility>

#include "tests/cuda_host/streams.h"

namespace phi::cuda_host {
namespace {

thread_local cudaError_t last_error = cudaSuccess;

constexpr int kMultiprocessors = 132;

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
  properties->major = CurrentSettings().compute_major;
  properties->minor = CurrentSettings().compute_minor;
  properties->totalGlobalMem = CurrentSettings().memory_bytes;
  properties->multiProcessorCount = phi::cuda_host::kMultiprocessors;
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = 1024;
  properties->maxThreadsPerMultiProcessor = 2048;
  properties->sharedMemPerBlock = 48 * 1024;
  properties->sharedMemPerBlockOptin = 227 * 1024;
  properties->sharedMemPerMultiprocessor = 228 * 1024;
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
      *value = CurrentSettings().compute_major;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = CurrentSettings().compute_minor;
      return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
      *value = phi::cuda_host::kMultiprocessors;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = 227 * 1024;
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
