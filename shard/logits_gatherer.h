#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "shard/checkpoint/model_config.h"
#include "shard/collective/communicator.h"
#include "shard/partition.h"

namespace phi::shard {

// Brings the ranks' vocabulary slices of a step's logits together on rank 0.
class LogitsGatherer {
 public:
  // `backend` and `communicator` outlive it. Takes Bytes() of the backend: none where one rank has
  // all there is.
  static absl::StatusOr<LogitsGatherer> Create(const ModelConfig& config,
                                               uint32_t max_rows,
                                               kernels::Backend& backend,
                                               Communicator& communicator);
  static size_t Bytes(const ModelConfig& config, uint32_t max_rows, int rank, int world_size);

  // One GatherToRoot. local_logits [num_rows, local vocab_rows] on the device; they stay as they
  // are until the last Row().
  absl::Status Gather(float* local_logits, size_t num_rows);

  // On rank 0, after Gather: logits [vocab_size] of row `row`, in host memory; valid until the next
  // call, and the caller's to change.
  absl::StatusOr<std::span<float>> Row(size_t row);

 private:
  LogitsGatherer(kernels::Backend& backend, Communicator& communicator)
      : backend_(&backend), communicator_(&communicator) {}

  kernels::Backend* backend_;
  Communicator* communicator_;
  std::vector<Range> vocab_rows_;  // of each rank
  std::vector<size_t> counts_;     // what each rank sends in this step
  std::unique_ptr<kernels::DeviceBuffer> received_;
  // On rank 0: each rank's [num_rows, its vocab_rows], in rank order.
  float* gathered_ = nullptr;
  std::vector<float> row_;
};

}  // namespace phi::shard
