#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"

namespace phi::shard {

// What a communicator has done since it was made; rank-local.
struct CollectiveStats {
  uint64_t all_reduces = 0;
  uint64_t gathers = 0;
  uint64_t bytes_sent = 0;
  double seconds = 0;  // spent inside collectives, waiting included
};

// Tensor-parallel collectives of one group: every rank makes the same calls in the same order with
// matching sizes (I4). Sums are made in rank order for every message size, so that batching and
// chunking cannot change one (I1).
//
// Errors: UNAVAILABLE when a peer is gone or the deadline of the group passed. The group is lost
// then (I5): nothing is repaired, the process ends and the supervisor starts a new epoch. Threads:
// one caller.
class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int world_size() const = 0;

  // data[i] = sum over ranks of data[i], on every rank, bit-equal on all. Memory of the rank's
  // backend.
  virtual absl::Status AllReduceSum(std::span<float> data) = 0;

  // Rank 0 receives every rank's `send`, in rank order, at the running sum of `counts` (one entry a
  // rank, known to all); `receive` is written on rank 0 only. `send` may lie where it goes in
  // `receive`: nothing is copied then.
  virtual absl::Status GatherToRoot(std::span<const float> send,
                                    std::span<const size_t> counts,
                                    std::span<float> receive) = 0;

  virtual const CollectiveStats& stats() const = 0;
};

}  // namespace phi::shard
