#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/dtype.h"

namespace phi::kernels {

struct CudaOptions {
  int device = 0;
  DType dtype = DType::kBFloat16;
  // I1: one kernel with one order of summation for any number of rows, instead of the fastest one
  // for each. Without it, tokens may depend on batch mates in the last bits.
  bool batch_invariant = false;
  // Bounds of one step, for the tables that are copied to the device with it.
  int64_t max_step_tokens = 4096;
  int64_t max_block_ids = 16384;  // of all sequences of a step together
  // Decode steps of up to so many rows, one a sequence with logits for each, are recorded as CUDA
  // graphs, one for each number of rows, and replayed; 0: none. All such steps of one number of
  // rows must make the same calls with the same memory, collectives on stream() included.
  int64_t max_graph_rows = 64;
};

// The backend of kernels/backend.h on one NVIDIA GPU. Operations are queued on one stream;
// FinishStep() and CopyToHost() wait for it.
//
// Fusion. A LayerNorm waits for the product that reads it and the rotary embedding for the
// attention, so that a decode step of a few rows is three launches a layer: what such a pair leaves
// in `hidden`, in the normed rows and in the rotated queries is for the operations that follow, and
// unspecified after FinishStep().
//
// Memory: beyond Allocate() and PackMatrix() it takes CudaScratchBytes() at its start.
//
// This header and its users need no CUDA toolkit; without one the build takes
// cuda_backend_stub.cc, whose MakeCudaBackend is FAILED_PRECONDITION.
class CudaBackend : public Backend {
 public:
  // The stream (a cudaStream_t) of all operations: collectives are queued on it.
  virtual void* stream() = 0;

  // FinishStep() and CopyToHost() call it while they wait and give up with its error: the device
  // would wait for ever for a collective whose peer is gone.
  virtual void CheckWhileWaiting(std::function<absl::Status()> check) = 0;

  // The state of `status` and of all that was queued before; waits like FinishStep().
  virtual absl::Status WaitForStream() = 0;

  // Whether the step's operations are in a recorded graph and queued by FinishStep(): a collective
  // of the step is in it too, and must not be queued again.
  virtual bool IsReplay() const = 0;

  // Destroys the recorded graphs; before the end of a communicator whose collectives are in them.
  virtual void ForgetGraphs() = 0;

  // sum[i] = gathered[0][i] + gathered[1][i] + ..., in rank order; gathered [ranks, count] float32.
  virtual void SumRanks(const float* gathered, int ranks, int64_t count, float* sum) = 0;
};

// FAILED_PRECONDITION, in one line, where there is no driver, no such device, one older than sm_80
// or a build without CUDA; RESOURCE_EXHAUSTED when the device has no memory for the scratch.
absl::StatusOr<std::unique_ptr<CudaBackend>> MakeCudaBackend(const CudaOptions& options);

// What MakeCudaBackend takes beside Allocate() and PackMatrix(), in bytes at most, for steps of up
// to 65,536 tokens and 524,288 block ids.
size_t CudaScratchBytes();

}  // namespace phi::kernels
