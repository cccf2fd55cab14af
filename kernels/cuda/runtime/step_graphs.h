#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <initializer_list>
#include <vector>

#include "absl/status/status.h"
#include "kernels/backend.h"
#include "kernels/cuda/runtime/handles.h"

namespace phi::kernels::cuda {

// Decode steps as CUDA graphs, one for each number of rows: the first step of so many rows is
// queued kernel by kernel, because what libraries and the driver set up on first use cannot be
// recorded; the second one is recorded; from then on a step is one launch. All that differs between
// such steps is in the step's tables, which are at the same addresses in each.
//
// Threads: one caller.
class StepGraphs {
 public:
  // For steps of up to max_rows rows; 0: none.
  explicit StepGraphs(int64_t max_rows) : slots_(static_cast<size_t>(max_rows) + 1) {}

  // A step begins, its tables are queued. Records what is queued on `stream` from now on where that
  // is due.
  absl::Status Begin(const StepBatch& batch, bool is_decode, cudaStream_t stream);

  // Each operation says what it works on and queues nothing where this is true. Steps of one number
  // of rows make the same calls: a replay of others aborts in Finish().
  bool Skips(std::initializer_list<const void*> call);
  bool IsReplay() const { return mode_ == Mode::kReplay; }

  // Launches what was recorded, now or before; nothing for a step that is queued.
  absl::Status Finish(cudaStream_t stream);

  // Destroys all of them; steps are recorded anew. A communicator does not end before the graphs
  // that have its collectives in them.
  void Clear();

 private:
  enum class Mode { kQueue, kRecord, kReplay };
  struct Slot {
    bool was_queued = false;
    GraphExec graph;
    uint64_t calls = 0;  // of the recorded step
  };

  absl::Status EndRecord(cudaStream_t stream, Slot* slot);

  std::vector<Slot> slots_;  // by number of rows
  Mode mode_ = Mode::kQueue;
  size_t rows_ = 0;     // of the step
  uint64_t calls_ = 0;  // hash of what its operations work on
};

}  // namespace phi::kernels::cuda
