#include "kernels/cuda/runtime/stream_backend.h"

#include <cuda_runtime_api.h>
#include <sched.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "kernels/base/status_macros.h"
#include "kernels/cuda/runtime/device_properties.h"

namespace phi::kernels {
namespace cuda {
namespace {

// Polls of the stream between two looks at the check.
constexpr int kPollsPerCheck = 64;

// A row of logits fits; what does not goes in parts.
constexpr size_t kHostStagingBytes = size_t{1} << 20;

}  // namespace

absl::Status StreamBackend::Init() {
  PHI_RETURN_IF_ERROR(UseDevice());
  PHI_ASSIGN_OR_RETURN(const cudaDeviceProp properties, SupportedDevice(options_.device));
  name_ = properties.name;
  instruction_set_ = InstructionSetOf(properties);
  cudaStream_t stream = nullptr;
  PHI_RETURN_IF_ERROR(
      CudaStatus(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating the stream"));
  stream_.reset(stream);
  PHI_ASSIGN_OR_RETURN(split_scratch_, DeviceMemory::Allocate(kSplitScratchBytes, stream));
  PHI_ASSIGN_OR_RETURN(split_tickets_,
                       DeviceMemory::Allocate(kMaxSplitTickets * sizeof(int32_t), stream));
  context_ = {.dtype = options_.dtype,
              .stream = stream,
              .num_processors = properties.multiProcessorCount,
              .max_shared_bytes = static_cast<int64_t>(properties.sharedMemPerBlockOptin),
              .split_scratch = reinterpret_cast<float*>(split_scratch_->data()),
              .split_tickets = reinterpret_cast<int32_t*>(split_tickets_->data())};
  PHI_ASSIGN_OR_RETURN(
      upload_,
      StepUpload::Create({.rows = options_.max_step_tokens, .block_ids = options_.max_block_ids},
                         stream));
  void* staging = nullptr;
  PHI_RETURN_IF_ERROR(
      CudaStatus(cudaMallocHost(&staging, kHostStagingBytes), "allocating pinned memory"));
  host_staging_.reset(staging);
  PHI_ASSIGN_OR_RETURN(products_, Products::Create(context_, options_.batch_invariant));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<DeviceBuffer>> StreamBackend::Allocate(size_t bytes) {
  PHI_RETURN_IF_ERROR(UseDevice());
  return DeviceMemory::Allocate(bytes, stream_.get());
}

absl::StatusOr<std::unique_ptr<PackedMatrix>> StreamBackend::PackMatrix(
    int64_t rows, int64_t cols, std::span<const WeightSlice> slices) {
  PHI_RETURN_IF_ERROR(UseDevice());
  if (SmallProductRows(context_, PadPacked(cols), true) < 1) {
    return absl::InvalidArgumentError(
        absl::StrFormat("a matrix of %d inputs is too wide for the device", cols));
  }
  return PackedDeviceMatrix::Pack(dtype(), rows, cols, slices, stream_.get());
}

absl::StatusOr<std::unique_ptr<DeviceBuffer>> StreamBackend::UploadTable(const WeightSlice& slice) {
  PHI_RETURN_IF_ERROR(UseDevice());
  return UploadRows(dtype(), slice, stream_.get());
}

absl::StatusOr<std::unique_ptr<DeviceBuffer>> StreamBackend::UploadFloats(
    std::span<const float> values) {
  PHI_RETURN_IF_ERROR(UseDevice());
  PHI_ASSIGN_OR_RETURN(std::unique_ptr<DeviceMemory> memory,
                       DeviceMemory::Allocate(values.size_bytes(), stream_.get()));
  PHI_RETURN_IF_ERROR(memory->Upload(values.data(), values.size_bytes(), 0, stream_.get()));
  return memory;
}

void StreamBackend::BeginStep(const StepBatch& batch) {
  NoteStatus(UseDevice());
  // The tables' host memory is about to be written.
  if (!is_waited_for_) Note(cudaStreamSynchronize(stream_.get()), "the step before");
  is_waited_for_ = false;
  pending_norm_.reset();
  pending_rotary_.reset();
  block_copies_ = batch.block_copies;
  Note(upload_->Queue(batch, stream_.get()), "copying the step's tables");
  NoteStatus(graphs_.Begin(batch, upload_->is_decode(), stream_.get()));
}

absl::Status StreamBackend::FinishStep() {
  Flush();
  NoteStatus(graphs_.Finish(stream_.get()));
  return WaitForStream();
}

absl::Status StreamBackend::WaitForStream() {
  Flush();
  NoteStatus(UseDevice());
  PHI_RETURN_IF_ERROR(status_);
  if (check_ == nullptr) {
    Note(cudaStreamSynchronize(stream_.get()), "the step");
  } else {
    cudaError_t state = cudaErrorNotReady;
    for (int polls = 1; status_.ok(); ++polls) {
      state = cudaStreamQuery(stream_.get());
      if (state != cudaErrorNotReady) break;
      if (polls % kPollsPerCheck == 0) {
        NoteStatus(check_());
        sched_yield();
      }
    }
    if (status_.ok()) Note(state, "the step");
  }
  is_waited_for_ = true;
  return status_;
}

// By page-locked memory: a copy to any other waits in the driver, where nobody looks whether the
// collective before it has lost its peer.
absl::Status StreamBackend::CopyToHost(void* to, const void* from, size_t bytes) {
  if (bytes == 0) return status_;
  PHI_RETURN_IF_ERROR(UseDevice());
  Flush();
  for (size_t done = 0; done < bytes && status_.ok(); done += kHostStagingBytes) {
    const size_t part = std::min(bytes - done, kHostStagingBytes);
    Note(cudaMemcpyAsync(host_staging_.get(),
                         static_cast<const std::byte*>(from) + done,
                         part,
                         cudaMemcpyDeviceToHost,
                         stream_.get()),
         "copying to the host");
    PHI_RETURN_IF_ERROR(WaitForStream());
    std::memcpy(static_cast<std::byte*>(to) + done, host_staging_.get(), part);
  }
  return status_;
}

}  // namespace cuda

absl::StatusOr<std::unique_ptr<CudaBackend>> MakeCudaBackend(const CudaOptions& options) {
  auto backend = std::make_unique<cuda::StreamBackend>(options);
  PHI_RETURN_IF_ERROR(backend->Init());
  return backend;
}

size_t CudaScratchBytes() {
  return static_cast<size_t>(cuda::kSplitScratchBytes) +
         static_cast<size_t>(cuda::kMaxSplitTickets) * sizeof(int32_t) +
         cuda::Products::ScratchBytes() +
         cuda::StepUpload::Bytes({.rows = 65'536, .block_ids = 524'288});
}

}  // namespace phi::kernels
