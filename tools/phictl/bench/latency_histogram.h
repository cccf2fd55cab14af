#pragma once

#include <cstdint>
#include <vector>

#include "absl/time/time.h"

namespace phi::phictl {

// Durations in fixed memory, however long the load runs: 64 buckets an octave from 1 us to 2^36 us
// (19 hours), as in HdrHistogram, so that a quantile lies within 0.8% of the sample it stands for.
// Exact samples would grow by one for each token.
class LatencyHistogram {
 public:
  LatencyHistogram();

  // Below zero counts as zero, beyond the top as the top.
  void Add(absl::Duration sample);
  void Merge(const LatencyHistogram& other);

  uint64_t count() const { return count_; }
  absl::Duration max() const { return max_; }
  absl::Duration Mean() const;
  // The smallest value that at least a share of `quantile` in [0, 1] of the samples do not exceed
  // (nearest rank); zero where there are none. Quantile(1) is max().
  absl::Duration Quantile(double quantile) const;

 private:
  std::vector<uint64_t> buckets_;
  uint64_t count_ = 0;
  absl::Duration sum_;
  absl::Duration min_ = absl::InfiniteDuration();
  absl::Duration max_;
};

}  // namespace phi::phictl
