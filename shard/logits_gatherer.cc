#include "shard/logits_gatherer.h"

#include <algorithm>
#include <cmath>

#include "kernels/base/status_macros.h"

namespace phi::shard {

namespace {

// A candidate on its way, as a communicator of floats takes it: bits that nobody computes with.
constexpr size_t kCandidateFloats = sizeof(kernels::Candidate) / sizeof(float);
static_assert(sizeof(kernels::Candidate) == kCandidateFloats * sizeof(float));

size_t LogitsBytes(const ModelConfig& config, uint32_t max_rows, int rank, int world_size) {
  return rank == 0 && world_size > 1
             ? size_t{max_rows} * static_cast<size_t>(config.vocab_size) * sizeof(float)
             : 0;
}

// Entries of the buffer of candidates.
size_t NumCandidates(uint32_t max_rows, int rank, int world_size) {
  return size_t{max_rows} * kernels::kMaxCandidates *
         static_cast<size_t>(rank == 0 ? world_size : 1);
}

}  // namespace

size_t LogitsGatherer::Bytes(const ModelConfig& config,
                             uint32_t max_rows,
                             int rank,
                             int world_size) {
  return LogitsBytes(config, max_rows, rank, world_size) +
         NumCandidates(max_rows, rank, world_size) * sizeof(kernels::Candidate);
}

absl::StatusOr<LogitsGatherer> LogitsGatherer::Create(const ModelConfig& config,
                                                      const Sizes& sizes,
                                                      kernels::Backend& backend,
                                                      Communicator& communicator) {
  const int world_size = communicator.world_size();
  LogitsGatherer gatherer(backend, communicator);
  gatherer.num_real_tokens_ = sizes.num_real_tokens;
  for (int rank = 0; rank < world_size; ++rank) {
    PHI_ASSIGN_OR_RETURN(const RankPartition partition, PartitionModel(config, rank, world_size));
    gatherer.vocab_rows_.push_back(partition.vocab_rows);
  }
  gatherer.counts_.resize(gatherer.vocab_rows_.size());
  PHI_ASSIGN_OR_RETURN(
      gatherer.received_,
      backend.Allocate(LogitsBytes(config, sizes.max_rows, communicator.rank(), world_size)));
  const size_t num_candidates = NumCandidates(sizes.max_rows, communicator.rank(), world_size);
  PHI_ASSIGN_OR_RETURN(gatherer.candidates_,
                       backend.Allocate(num_candidates * sizeof(kernels::Candidate)));
  if (communicator.rank() == 0) {
    gatherer.row_.resize(static_cast<size_t>(config.vocab_size));
    gatherer.host_candidates_.reserve(num_candidates);
    gatherer.merged_.reserve(static_cast<size_t>(world_size) * kernels::kMaxCandidates);
  }
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

absl::Status LogitsGatherer::GatherCandidates(const float* local_logits,
                                              size_t num_rows,
                                              uint32_t count) {
  auto* candidates = reinterpret_cast<kernels::Candidate*>(candidates_->data());
  const Range& ids = vocab_rows_[static_cast<size_t>(communicator_->rank())];
  const int64_t num_real =
      std::clamp<int64_t>(int64_t{num_real_tokens_} - ids.begin, 0, ids.size());
  backend_->TopCandidates({.logits = local_logits,
                           .num_rows = static_cast<int64_t>(num_rows),
                           .num_cols = ids.size(),
                           .num_real = num_real,
                           .first_id = ids.begin},
                          static_cast<int>(count),
                          candidates);
  const size_t own = num_rows * count;
  std::fill(counts_.begin(), counts_.end(), own * kCandidateFloats);
  auto* floats = reinterpret_cast<float*>(candidates);
  const size_t received = communicator_->rank() == 0 ? counts_.size() * own : 0;
  PHI_RETURN_IF_ERROR(communicator_->GatherToRoot(
      {floats, own * kCandidateFloats}, counts_, {floats, received * kCandidateFloats}));
  if (communicator_->rank() != 0) return absl::OkStatus();
  num_candidates_ = count;
  host_candidates_.resize(received);
  return backend_->CopyToHost(
      host_candidates_.data(), candidates, host_candidates_.size() * sizeof(kernels::Candidate));
}

std::span<kernels::Candidate> LogitsGatherer::Candidates(size_t row) {
  const size_t num_ranks = counts_.size();
  const size_t per_rank = host_candidates_.size() / num_ranks;
  merged_.clear();
  for (size_t rank = 0; rank < num_ranks; ++rank) {
    const kernels::Candidate* from = &host_candidates_[rank * per_rank + row * num_candidates_];
    // A rank's share that is not finite spoils the row.
    if (std::isnan(from->logit)) {
      merged_.assign(1, *from);
      return merged_;
    }
    merged_.insert(merged_.end(), from, from + num_candidates_);
  }
  std::erase_if(merged_, [](const kernels::Candidate& each) { return each.token_id < 0; });
  std::sort(merged_.begin(), merged_.end(), kernels::ComesBefore);
  if (merged_.size() > num_candidates_) merged_.resize(num_candidates_);
  return merged_;
}

}  // namespace phi::shard
