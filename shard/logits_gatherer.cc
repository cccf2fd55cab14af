#include "shard/logits_gatherer.h"

#include "kernels/base/status_macros.h"

namespace phi::shard {

size_t LogitsGatherer::Bytes(const ModelConfig& config,
                             uint32_t max_rows,
                             int rank,
                             int world_size) {
  return rank == 0 && world_size > 1
             ? size_t{max_rows} * static_cast<size_t>(config.vocab_size) * sizeof(float)
             : 0;
}

absl::StatusOr<LogitsGatherer> LogitsGatherer::Create(const ModelConfig& config,
                                                      uint32_t max_rows,
                                                      kernels::Backend& backend,
                                                      Communicator& communicator) {
  LogitsGatherer gatherer(backend, communicator);
  for (int rank = 0; rank < communicator.world_size(); ++rank) {
    PHI_ASSIGN_OR_RETURN(const RankPartition partition,
                         PartitionModel(config, rank, communicator.world_size()));
    gatherer.vocab_rows_.push_back(partition.vocab_rows);
  }
  gatherer.counts_.resize(gatherer.vocab_rows_.size());
  PHI_ASSIGN_OR_RETURN(
      gatherer.received_,
      backend.Allocate(Bytes(config, max_rows, communicator.rank(), communicator.world_size())));
  if (communicator.rank() == 0) gatherer.row_.resize(static_cast<size_t>(config.vocab_size));
  return gatherer;
}

absl::Status LogitsGatherer::Gather(float* local_logits, size_t num_rows) {
  for (size_t rank = 0; rank < counts_.size(); ++rank) {
    counts_[rank] = num_rows * static_cast<size_t>(vocab_rows_[rank].size());
  }
  const std::span<const float> send(local_logits,
                                    counts_[static_cast<size_t>(communicator_->rank())]);
  gathered_ =
      communicator_->world_size() == 1 ? local_logits : reinterpret_cast<float*>(received_->data());
  return communicator_->GatherToRoot(
      send, counts_, std::span<float>(gathered_, num_rows * row_.size()));
}

absl::StatusOr<std::span<float>> LogitsGatherer::Row(size_t row) {
  const float* from = gathered_;
  for (size_t rank = 0; rank < counts_.size(); ++rank) {
    const auto begin = static_cast<size_t>(vocab_rows_[rank].begin);
    const auto size = static_cast<size_t>(vocab_rows_[rank].size());
    PHI_RETURN_IF_ERROR(
        backend_->CopyToHost(row_.data() + begin, from + row * size, size * sizeof(float)));
    from += counts_[rank];
  }
  return std::span<float>(row_);
}

}  // namespace phi::shard
