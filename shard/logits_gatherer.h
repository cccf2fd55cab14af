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

// Brings the ranks' vocabulary slices of a step's logits together on rank 0, or the candidates
// among them. What is sent is either, in one GatherToRoot, and all ranks decide alike (I4).
class LogitsGatherer {
 public:
  struct Sizes {
    uint32_t max_rows = 0;
    uint32_t num_real_tokens = 0;  // ids from here on are no candidates
  };

  // `backend` and `communicator` outlive it. Takes Bytes() of the backend.
  static absl::StatusOr<LogitsGatherer> Create(const ModelConfig& config,
                                               const Sizes& sizes,
                                               kernels::Backend& backend,
                                               Communicator& communicator);
  static size_t Bytes(const ModelConfig& config, uint32_t max_rows, int rank, int world_size);

  // local_logits [num_rows, local vocab_rows] on the device; they stay as they are until the last
  // Row().
  absl::Status Gather(float* local_logits, size_t num_rows);

  // On rank 0, after Gather: logits [vocab_size] of row `row`, in host memory; valid until the next
  // call, and the caller's to change.
  absl::StatusOr<std::span<float>> Row(size_t row);

  // The same for the `count` candidates of each row, 1 <= count <= kMaxCandidates.
  absl::Status GatherCandidates(const float* local_logits, size_t num_rows, uint32_t count);

  // On rank 0, after GatherCandidates: those of row `row`, as Backend::TopCandidates gives them for
  // the whole vocabulary, without those that are none; at least one. Valid until the next call, and
  // the caller's to change.
  std::span<kernels::Candidate> Candidates(size_t row);

 private:
  LogitsGatherer(kernels::Backend& backend, Communicator& communicator)
      : backend_(&backend), communicator_(&communicator) {}

  kernels::Backend* backend_;
  Communicator* communicator_;
  uint32_t num_real_tokens_ = 0;
  std::vector<Range> vocab_rows_;  // of each rank
  std::vector<size_t> counts_;     // what each rank sends in this step
  std::unique_ptr<kernels::DeviceBuffer> received_;
  // This rank's candidates of a step; on rank 0 those of the others follow.
  std::unique_ptr<kernels::DeviceBuffer> candidates_;
  // On rank 0: each rank's [num_rows, its vocab_rows], in rank order.
  float* gathered_ = nullptr;
  std::vector<float> row_;
  // On rank 0: each rank's [num_rows, num_candidates_], in rank order.
  std::vector<kernels::Candidate> host_candidates_;
  uint32_t num_candidates_ = 0;
  std::vector<kernels::Candidate> merged_;  // of one row
};

}  // namespace phi::shard
