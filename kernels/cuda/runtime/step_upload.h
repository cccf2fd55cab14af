#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/runtime/device_memory.h"
#include "kernels/cuda/runtime/handles.h"

namespace phi::kernels::cuda {

// A step's tables on the device, at the same addresses in every step, brought there by one copy.
class StepUpload {
 public:
  // Bounds of one step; a larger one aborts.
  struct Limits {
    int64_t rows = 0;
    int64_t block_ids = 0;
  };
  // Of the tables, on the device and as much page-locked on the host.
  static size_t Bytes(const Limits& limits);
  static absl::StatusOr<std::unique_ptr<StepUpload>> Create(const Limits& limits,
                                                            cudaStream_t stream);

  // Puts the batch's tables together and queues their copy. The copy of the step before must be
  // over.
  cudaError_t Queue(const StepBatch& batch, cudaStream_t stream);

  // Of the batch that was queued last.
  const StepTables& tables() const { return tables_; }
  // Whether each of its sequences has one row.
  bool is_decode() const { return is_decode_; }

 private:
  // Where each table begins, in 4-byte words; block_ids come last, because they alone are long.
  struct Offsets {
    int64_t token_ids, positions, slots, first_blocks, logits_rows, tiles, block_ids, end;
  };
  StepUpload(const Limits& limits, std::unique_ptr<DeviceMemory> device, PinnedMemory staging);
  static Offsets OffsetsOf(const Limits& limits);

  void FillRows(const StepBatch& batch);
  int64_t FillTiles(const StepBatch& batch);
  int32_t* Staged(int64_t offset) { return static_cast<int32_t*>(staging_.get()) + offset; }

  const Limits limits_;
  const Offsets offsets_;
  std::unique_ptr<DeviceMemory> device_;
  PinnedMemory staging_;
  StepTables tables_;
  bool is_decode_ = false;
};

}  // namespace phi::kernels::cuda
