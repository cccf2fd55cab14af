#pragma once

#include <cuda_runtime_api.h>

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tests/cuda_host/fiber.h"
#include "tests/cuda_host/harness.h"

// The pretend devices: memory, and streams as queues of operations that run when somebody waits for
// them or for a collective with them, on the waiting thread, ready streams in an order drawn from
// the seed. To ThreadSanitizer a stream
// is a thread, ordered with the host and with other streams by enqueueing, events and waits alone.
namespace phi::cuda_host {

struct Device;

// Something that a stream does.
class Operation {
 public:
  virtual ~Operation() = default;
  // In the stream's turn; false: cannot run yet.
  virtual bool Run(Device& device) = 0;
  // A fresh one with the same parameters, for each launch of a graph.
  virtual std::unique_ptr<Operation> Clone() const = 0;
  // After somebody has waited for it, on the host: its counts.
  virtual void Retire(Device& /*device*/) {}
};

struct DeviceMemory {
  // Allocations by their end. Mapped host memory (cudaMallocHost) is visible to kernels too.
  std::map<const std::byte*, size_t> device;
  std::map<const std::byte*, size_t> host;
  size_t device_bytes = 0;

  bool ContainsDevice(const void* pointer, size_t bytes) const;
  bool ContainsHost(const void* pointer, size_t bytes) const;
  // AddressSanitizer's view: only operations of streams may touch device memory.
  void Forbid() const;
  void Allow() const;
};

struct Device {
  int ordinal = 0;
  std::recursive_mutex mutex;  // of all below
  DeviceMemory memory;
  std::vector<cudaStream_t> streams;
  cudaError_t sticky = cudaSuccess;
  // An engine that kernels and tests do not use: its code is shared with nobody whom
  // ThreadSanitizer watches.
  std::minstd_rand random;
  DeviceCounts counts;
};

Device& GetDevice(int ordinal);
// The calling thread's.
Device& CurrentDevice();
void SetCurrentDevice(int ordinal);
const Settings& CurrentSettings();

// What a device of the settings' compute capability has.
struct Chip {
  int num_processors;
  int block_shared_bytes;  // of one block that asks for them
  int processor_shared_bytes;
};
Chip CurrentChip();

// Counts a call; the error that a test asked for, or 0.
int InjectedError(const std::string& name);
// Keeps an error for cudaGetLastError.
cudaError_t Remember(cudaError_t error);

// The stream that the calling thread records, or null.
extern thread_local cudaStream_t recorded_stream;
// Whether the calling thread records, in which it may make no call that waits for the device or
// changes its memory: the recording is lost then.
bool SpoilsRecording();

// Runs ready operations of any stream of the device, at most `most`; how many ran.
int Advance(Device& device, int most);
// Somewhere between one and `most` of them; where none can run, other devices' that it may wait
// for, and false.
bool AdvanceOrHelp(Device& device, int most);
// Until `stream` is empty, or every stream where it is null.
cudaError_t WaitFor(Device& device, cudaStream_t stream);
// Adds to the stream, or to the graph that it records. Checks the stream's device.
cudaError_t Enqueue(cudaStream_t stream, std::unique_ptr<Operation> operation);
// Wakes those who wait for an operation that could not run.
void NotifyProgress();

}  // namespace phi::cuda_host

struct CUgraph_st {
  std::vector<std::unique_ptr<phi::cuda_host::Operation>> operations;
};

struct CUgraphExec_st : CUgraph_st {};

struct CUstream_st {
  struct Entry {
    std::unique_ptr<phi::cuda_host::Operation> operation;
    std::unique_ptr<char> tag;  // orders the enqueuing thread before the operation
  };
  phi::cuda_host::Device* device = nullptr;
  std::deque<Entry> queue;
  std::vector<Entry> finished;  // not yet waited for
  std::unique_ptr<CUgraph_st> capture;
  bool capture_failed = false;
  phi::cuda_host::TsanContext context;
  char tag = 0;  // orders its operations before those who waited for it
};

struct CUevent_st {
  std::atomic<uint64_t> recorded = 0;  // how often cudaEventRecord was called
  std::atomic<uint64_t> reached = 0;   // the latest of these that the stream has come to
  std::atomic<double> seconds = 0;     // when
  phi::cuda_host::Device* device = nullptr;
};
