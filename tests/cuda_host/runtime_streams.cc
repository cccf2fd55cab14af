// cudart: streams, events and graphs.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <chrono>

#include "tests/cuda_host/streams.h"

namespace phi::cuda_host {
namespace {

class RecordOperation : public Operation {
 public:
  RecordOperation(cudaEvent_t event, uint64_t number) : event_(event), number_(number) {}
  bool Run(Device& /*device*/) override {
    TsanRelease(event_);
    event_->seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
    event_->reached = number_;
    return true;
  }
  std::unique_ptr<Operation> Clone() const override {
    return std::make_unique<RecordOperation>(*this);
  }

 private:
  cudaEvent_t event_;
  uint64_t number_;
};

class WaitOperation : public Operation {
 public:
  WaitOperation(cudaEvent_t event, uint64_t number) : event_(event), number_(number) {}
  bool Run(Device& /*device*/) override {
    if (event_->reached < number_) return false;
    TsanAcquire(event_);
    return true;
  }
  std::unique_ptr<Operation> Clone() const override {
    return std::make_unique<WaitOperation>(*this);
  }

 private:
  cudaEvent_t event_;
  uint64_t number_;
};

// A call that a recording stream cannot have: the recording is lost.
bool IsCaptured(cudaStream_t stream) {
  if (stream->capture == nullptr) return false;
  stream->capture_failed = true;
  return true;
}

std::vector<std::unique_ptr<Operation>> CloneAll(
    const std::vector<std::unique_ptr<Operation>>& operations) {
  std::vector<std::unique_ptr<Operation>> clones;
  clones.reserve(operations.size());
  for (const auto& operation : operations) clones.push_back(operation->Clone());
  return clones;
}

}  // namespace
}  // namespace phi::cuda_host

using phi::cuda_host::Device;
using phi::cuda_host::InjectedError;
using phi::cuda_host::Remember;

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int /*flags*/) {
  if (const int error = InjectedError("cudaStreamCreateWithFlags"); error != 0) {
    return Remember(static_cast<cudaError_t>(error));
  }
  Device& device = phi::cuda_host::CurrentDevice();
  const std::lock_guard lock(device.mutex);
  *stream = new CUstream_st;
  (*stream)->device = &device;
  device.streams.push_back(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, 0); }

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Device& device = *stream->device;
  const std::lock_guard lock(device.mutex);
  const cudaError_t waited = phi::cuda_host::WaitFor(device, stream);
  std::erase(device.streams, stream);
  if (phi::cuda_host::recorded_stream == stream) phi::cuda_host::recorded_stream = nullptr;
  delete stream;
  return waited;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (const int error = InjectedError("cudaStreamSynchronize"); error != 0) {
    return Remember(static_cast<cudaError_t>(error));
  }
  Device& device = *stream->device;
  const std::lock_guard lock(device.mutex);
  if (phi::cuda_host::IsCaptured(stream)) return Remember(cudaErrorStreamCaptureUnsupported);
  return phi::cuda_host::WaitFor(device, stream);
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  Device& device = *stream->device;
  const std::lock_guard lock(device.mutex);
  if (phi::cuda_host::IsCaptured(stream)) return Remember(cudaErrorStreamCaptureUnsupported);
  phi::cuda_host::AdvanceOrHelp(device, 64);
  if (!stream->queue.empty() && device.sticky == cudaSuccess) return cudaErrorNotReady;
  return phi::cuda_host::WaitFor(device, stream);
}

cudaError_t cudaDeviceSynchronize() {
  if (phi::cuda_host::SpoilsRecording()) return Remember(cudaErrorStreamCaptureUnsupported);
  Device& device = phi::cuda_host::CurrentDevice();
  const std::lock_guard lock(device.mutex);
  return phi::cuda_host::WaitFor(device, nullptr);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int /*flags*/) {
  *event = new CUevent_st;
  (*event)->device = &phi::cuda_host::CurrentDevice();
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const std::lock_guard lock(event->device->mutex);
  const cudaError_t waited = phi::cuda_host::WaitFor(*event->device, nullptr);
  delete event;
  return waited;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (stream == nullptr) return Remember(cudaErrorInvalidResourceHandle);
  const std::lock_guard lock(stream->device->mutex);
  // One stream a recording: no fork to another, no join.
  if (phi::cuda_host::IsCaptured(stream)) return Remember(cudaErrorStreamCaptureUnsupported);
  const uint64_t number = ++event->recorded;
  return Enqueue(stream, std::make_unique<phi::cuda_host::RecordOperation>(event, number));
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int /*flags*/) {
  if (stream == nullptr) return Remember(cudaErrorInvalidResourceHandle);
  const std::lock_guard lock(stream->device->mutex);
  if (phi::cuda_host::IsCaptured(stream)) return Remember(cudaErrorStreamCaptureUnsupported);
  return Enqueue(stream, std::make_unique<phi::cuda_host::WaitOperation>(event, event->recorded));
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  Device& device = *event->device;
  const std::lock_guard lock(device.mutex);
  phi::cuda_host::AdvanceOrHelp(device, 64);
  if (device.sticky != cudaSuccess) return Remember(device.sticky);
  if (event->reached < event->recorded) return cudaErrorNotReady;
  phi::cuda_host::TsanAcquire(event);
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  for (;;) {
    const cudaError_t error = cudaEventQuery(event);
    if (error != cudaErrorNotReady) return error;
  }
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  if (cudaEventQuery(start) != cudaSuccess || cudaEventQuery(end) != cudaSuccess) {
    return Remember(cudaErrorNotReady);
  }
  *milliseconds = static_cast<float>(1000 * (end->seconds - start->seconds));
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode /*mode*/) {
  if (stream == nullptr) return Remember(cudaErrorStreamCaptureUnsupported);
  const std::lock_guard lock(stream->device->mutex);
  if (stream->capture != nullptr) return Remember(cudaErrorIllegalState);
  stream->capture = std::make_unique<CUgraph_st>();
  stream->capture_failed = false;
  phi::cuda_host::recorded_stream = stream;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const std::lock_guard lock(stream->device->mutex);
  if (stream->capture == nullptr) return Remember(cudaErrorIllegalState);
  *graph = stream->capture.release();
  phi::cuda_host::recorded_stream = nullptr;
  if (!stream->capture_failed) return cudaSuccess;
  delete *graph;
  *graph = nullptr;
  return Remember(cudaErrorStreamCaptureInvalidated);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const std::lock_guard lock(stream->device->mutex);
  *status =
      stream->capture != nullptr ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable,
                                 cudaGraph_t graph,
                                 unsigned long long /*flags*/) {
  if (const int error = InjectedError("cudaGraphInstantiate"); error != 0) {
    return Remember(static_cast<cudaError_t>(error));
  }
  *executable = new CUgraphExec_st;
  (*executable)->operations = phi::cuda_host::CloneAll(graph->operations);
  return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* num_nodes) {
  if (nodes != nullptr) return Remember(cudaErrorNotSupported);
  *num_nodes = graph->operations.size();
  return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t /*executable*/, cudaStream_t /*stream*/) {
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  if (const int error = InjectedError("cudaGraphLaunch"); error != 0) {
    return Remember(static_cast<cudaError_t>(error));
  }
  if (stream == nullptr) return Remember(cudaErrorInvalidResourceHandle);
  const std::lock_guard lock(stream->device->mutex);
  for (const auto& operation : executable->operations) {
    const cudaError_t error = Enqueue(stream, operation->Clone());
    if (error != cudaSuccess) return error;
  }
  ++stream->device->counts.graph_launches;
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}
