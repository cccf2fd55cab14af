#include "tests/cuda_host/streams.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>

#include "tests/cuda_host/grid.h"

#if defined(PHI_CUDA_HOST_ASAN)
#include <sanitizer/asan_interface.h>
#endif

namespace phi::cuda_host {
namespace {

thread_local int current_device = 0;

// NVIDIA's data sheets and the CUDA C++ Programming Guide, "Technical Specifications per Compute
// Capability".
constexpr Chip kA100 = {
    .num_processors = 108, .block_shared_bytes = 163 * 1024, .processor_shared_bytes = 164 * 1024};
constexpr Chip kH100 = {
    .num_processors = 132, .block_shared_bytes = 227 * 1024, .processor_shared_bytes = 228 * 1024};

struct Failure {
  int remaining;
  int error;
};

struct Global {
  std::mutex mutex;
  std::condition_variable progress;
  Settings settings;
  std::map<std::string, Failure> failures;
};

Global& TheGlobal() {
  static Global global;
  return global;
}

bool ContainedIn(const std::map<const std::byte*, size_t>& allocations,
                 const void* pointer,
                 size_t bytes) {
  const auto* const at = static_cast<const std::byte*>(pointer);
  // Keyed by the end: the first allocation that ends behind `at`.
  const auto found = allocations.upper_bound(at);
  if (found == allocations.end()) return false;
  const std::byte* const start = found->first - found->second;
  return at >= start && bytes <= static_cast<size_t>(found->first - at);
}

// Counts and frees what the caller has now waited for.
void RetireFinished(CUstream_st& stream) {
  TsanAcquire(&stream.tag);
  for (CUstream_st::Entry& entry : stream.finished) entry.operation->Retire(*stream.device);
  stream.finished.clear();
}

bool RunHead(CUstream_st& stream) {
  CUstream_st::Entry& head = stream.queue.front();
  stream.context.Enter();
  TsanAcquire(head.tag.get());
  const bool ran = head.operation->Run(*stream.device);
  TsanRelease(&stream.tag);
  stream.context.Leave();
  if (!ran) return false;
  stream.finished.push_back(std::move(head));
  stream.queue.pop_front();
  return true;
}

bool AnythingLeft(const Device& device, const CUstream_st* stream) {
  if (stream != nullptr) return !stream->queue.empty();
  return std::any_of(device.streams.begin(), device.streams.end(), [](const CUstream_st* each) {
    return !each->queue.empty();
  });
}

}  // namespace

bool DeviceMemory::ContainsDevice(const void* pointer, size_t bytes) const {
  return ContainedIn(device, pointer, bytes);
}

bool DeviceMemory::ContainsHost(const void* pointer, size_t bytes) const {
  return ContainedIn(host, pointer, bytes);
}

void DeviceMemory::Forbid() const {
#if defined(PHI_CUDA_HOST_ASAN)
  for (const auto& [end, bytes] : device) __asan_poison_memory_region(end - bytes, bytes);
#endif
}

void DeviceMemory::Allow() const {
#if defined(PHI_CUDA_HOST_ASAN)
  for (const auto& [end, bytes] : device) __asan_unpoison_memory_region(end - bytes, bytes);
#endif
}

void Configure(const Settings& settings) {
  const std::lock_guard lock(TheGlobal().mutex);
  TheGlobal().settings = settings;
  TheGlobal().failures.clear();
  for (int i = 0; i < kNumDevices; ++i) {
    GetDevice(i).sticky = cudaSuccess;
    GetDevice(i).random.seed(static_cast<uint32_t>(settings.seed) + static_cast<uint32_t>(i));
    GetDevice(i).random.discard(16);  // seeds that are neighbours begin alike
  }
}

const Settings& CurrentSettings() { return TheGlobal().settings; }

Chip CurrentChip() { return CurrentSettings().compute_major == 8 ? kA100 : kH100; }

thread_local cudaStream_t recorded_stream = nullptr;

bool SpoilsRecording() {
  if (recorded_stream == nullptr) return false;
  const std::lock_guard lock(recorded_stream->device->mutex);
  recorded_stream->capture_failed = true;
  return true;
}

void FailCall(const std::string& name, int nth, int error) {
  const std::lock_guard lock(TheGlobal().mutex);
  TheGlobal().failures[name] = {.remaining = nth, .error = error};
}

int InjectedError(const std::string& name) {
  const std::lock_guard lock(TheGlobal().mutex);
  const auto found = TheGlobal().failures.find(name);
  if (found == TheGlobal().failures.end() || --found->second.remaining != 0) return 0;
  return found->second.error;
}

DeviceCounts TakeCounts(int device) {
  Device& state = GetDevice(device);
  const std::lock_guard lock(state.mutex);
  return std::exchange(state.counts, {});
}

Device& GetDevice(int ordinal) {
  static std::array<Device, kNumDevices> devices;
  static const bool numbered = [] {
    for (int i = 0; i < kNumDevices; ++i) devices[static_cast<size_t>(i)].ordinal = i;
    return true;
  }();
  (void)numbered;
  return devices[static_cast<size_t>(ordinal)];
}

Device& CurrentDevice() { return GetDevice(current_device); }
void SetCurrentDevice(int ordinal) { current_device = ordinal; }

void NotifyProgress() { TheGlobal().progress.notify_all(); }

int Advance(Device& device, int most) {
  if (!AnythingLeft(device, nullptr)) return 0;
  device.memory.Allow();
  int ran = 0;
  std::vector<CUstream_st*> order = device.streams;
  while (ran < most && device.sticky == cudaSuccess) {
    std::shuffle(order.begin(), order.end(), device.random);
    const bool any = std::any_of(order.begin(), order.end(), [](CUstream_st* stream) {
      return !stream->queue.empty() && RunHead(*stream);
    });
    if (!any) break;
    ++ran;
  }
  device.memory.Forbid();
  return ran;
}

bool AdvanceOrHelp(Device& device, int most) {
  if (Advance(device, 1 + static_cast<int>(device.random() % static_cast<uint32_t>(most))) > 0) {
    return true;
  }
  // Devices go on while their own host threads do something else.
  for (int i = 0; i < kNumDevices; ++i) {
    Device& other = GetDevice(i);
    if (&other == &device) continue;
    const std::unique_lock lock(other.mutex, std::try_to_lock);
    if (lock.owns_lock()) Advance(other, 1);
  }
  return false;
}

cudaError_t WaitFor(Device& device, cudaStream_t stream) {
  while (AnythingLeft(device, stream) && device.sticky == cudaSuccess) {
    if (AdvanceOrHelp(device, 16)) continue;
    // Another rank has to come; a collective that waits for too long reports it.
    std::unique_lock lock(TheGlobal().mutex);
    TheGlobal().progress.wait_for(lock, std::chrono::milliseconds(1));
  }
  for (CUstream_st* each : device.streams) {
    if (stream == nullptr || each == stream) RetireFinished(*each);
  }
  return Remember(device.sticky);
}

cudaError_t Enqueue(cudaStream_t stream, std::unique_ptr<Operation> operation) {
  // The legacy default stream waits for others, or not: code that means a stream names it.
  if (stream == nullptr) return Remember(cudaErrorInvalidResourceHandle);
  Device& device = *stream->device;
  if (&device != &CurrentDevice()) return Remember(cudaErrorInvalidResourceHandle);
  const std::lock_guard lock(device.mutex);
  if (device.sticky != cudaSuccess) return Remember(device.sticky);
  if (stream->capture != nullptr) {
    stream->capture->operations.push_back(std::move(operation));
    return cudaSuccess;
  }
  CUstream_st::Entry entry = {.operation = std::move(operation),
                              .tag = std::make_unique<char>('\0')};
  TsanRelease(entry.tag.get());
  stream->queue.push_back(std::move(entry));
  if (static_cast<int>(device.random() % 100) < CurrentSettings().eager_percent) {
    Advance(device, 1 + static_cast<int>(device.random() % 4));
  }
  return cudaSuccess;
}

}  // namespace phi::cuda_host
