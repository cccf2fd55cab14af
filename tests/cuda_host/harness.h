#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

// What tests say to the stand-ins of cudart, cuBLASLt and NCCL, and learn from them. Threads: any,
// but a device's counts belong to the thread that uses the device.
namespace phi::cuda_host {

struct Settings {
  uint64_t seed = 1;       // of the order of streams, blocks, warps and lanes
  int eager_percent = 25;  // how often an enqueued operation may start before anybody waits for it
  int compute_major = 9;   // of every pretend device: 8 is an A100, later ones an H100
  int compute_minor = 0;
  int old_devices_from = 8;               // devices from here on are of compute capability 7.0
  size_t memory_bytes = size_t{4} << 30;  // of one device
  double deadlock_seconds = 20;           // a collective that waits longer aborts with a report
};
inline constexpr int kNumDevices = 8;

// While no device has anything to do. Also ends what FailCall asked for, and the errors it led to.
void Configure(const Settings& settings);

// The nth call from now on (1 = the next) of an API function ("cudaMalloc", "cublasLtMatmul",
// "ncclAllReduce") returns `error`; "kernel" counts launches as they run, and its error is sticky.
// "ncclAsync" counts collectives and groups of transfers as they begin: their error is what
// ncclCommGetAsyncError returns then.
void FailCall(const std::string& name, int nth, int error);

struct KernelCount {
  uint64_t launches = 0;
  uint64_t bytes_read = 0;  // by 16-byte loads and cp.async; cublasLtMatmul: operands and result
};
struct DeviceCounts {
  std::map<std::string, KernelCount> kernels;  // by LaunchConfig::name; cuBLASLt's as "cublasLt"
  uint64_t copies = 0;
  uint64_t collectives = 0;
  uint64_t graph_launches = 0;

  uint64_t launches() const {
    uint64_t sum = 0;
    for (const auto& [name, count] : kernels) sum += count.launches;
    return sum;
  }
};
// Of the operations that were waited for since the last call.
DeviceCounts TakeCounts(int device);

// A kernel as cudaLaunchKernelExC needs to know it.
struct KernelEntry {
  const char* name;
  void (*call)(const void* kernel, void** arguments);
  const size_t* sizes;  // of its parameters
  size_t count;
};
void RegisterKernelEntry(const void* kernel, const KernelEntry& entry);

}  // namespace phi::cuda_host
