#include "kernels/cuda/runtime/step_graphs.h"

#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"

namespace phi::kernels::cuda {

absl::Status StepGraphs::Begin(const StepBatch& batch, bool is_decode, cudaStream_t stream) {
  if (mode_ == Mode::kRecord) {
    // The step before was given up half-way.
    cudaGraph_t graph = nullptr;
    static_cast<void>(cudaStreamEndCapture(stream, &graph));
    const Graph abandoned(graph);
  }
  mode_ = Mode::kQueue;
  calls_ = 0;
  rows_ = static_cast<size_t>(batch.num_rows());
  // Block copies are a step's own, and so is which rows have logits unless all do.
  if (!is_decode || rows_ == 0 || rows_ >= slots_.size() ||
      batch.num_logits_rows() != batch.num_rows() || !batch.block_copies.empty()) {
    return absl::OkStatus();
  }
  Slot& slot = slots_[rows_];
  if (slot.graph != nullptr) {
    mode_ = Mode::kReplay;
  } else if (slot.was_queued) {
    mode_ = Mode::kRecord;
    // Other threads may do with CUDA what they like meanwhile.
    return CudaStatus(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal),
                      "beginning to record a step");
  }
  slot.was_queued = true;
  return absl::OkStatus();
}

bool StepGraphs::Skips(std::initializer_list<const void*> call) {
  for (const void* pointer : call) {
    // Fibonacci hashing: an odd constant near 2^64 over the golden ratio.
    calls_ = (calls_ ^ reinterpret_cast<uintptr_t>(pointer)) * 0x9E3779B97F4A7C15U;
  }
  return mode_ == Mode::kReplay;
}

absl::Status StepGraphs::Finish(cudaStream_t stream) {
  if (mode_ == Mode::kQueue) return absl::OkStatus();
  Slot& slot = slots_[rows_];
  if (mode_ == Mode::kRecord) PHI_RETURN_IF_ERROR(EndRecord(stream, &slot));
  mode_ = Mode::kQueue;
  PHI_CHECK(calls_ == slot.calls, "a step of %zu rows is not the recorded one", rows_);
  return CudaStatus(cudaGraphLaunch(slot.graph.get(), stream), "launching a recorded step");
}

absl::Status StepGraphs::EndRecord(cudaStream_t stream, Slot* slot) {
  mode_ = Mode::kQueue;
  cudaGraph_t recorded = nullptr;
  PHI_RETURN_IF_ERROR(CudaStatus(cudaStreamEndCapture(stream, &recorded), "recording a step"));
  const Graph graph(recorded);
  cudaGraphExec_t executable = nullptr;
  PHI_RETURN_IF_ERROR(CudaStatus(cudaGraphInstantiate(&executable, recorded, 0),
                                 "making a graph of a recorded step"));
  slot->graph.reset(executable);
  slot->calls = calls_;
  return absl::OkStatus();
}

void StepGraphs::Clear() {
  for (Slot& slot : slots_) slot.graph.reset();
}

}  // namespace phi::kernels::cuda
