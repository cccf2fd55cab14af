#include "tools/phictl/bench/latency_histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace phi::phictl {
namespace {

constexpr int kBucketBits = 6;  // 64 buckets an octave
constexpr uint64_t kBucketsPerOctave = 1 << kBucketBits;
constexpr uint64_t kTopMicroseconds = (1ULL << 36) - 1;

// Values below two octaves' worth of buckets are their own index; above, each octave takes the same
// number of buckets by dropping low bits.
size_t BucketOf(uint64_t microseconds) {
  const auto width = static_cast<int>(std::bit_width(microseconds));
  const int dropped = std::max(0, width - kBucketBits - 1);
  return static_cast<size_t>(dropped) * kBucketsPerOctave + (microseconds >> dropped);
}

absl::Duration MiddleOf(size_t bucket) {
  if (bucket < 2 * kBucketsPerOctave) return absl::Microseconds(static_cast<int64_t>(bucket));
  const size_t dropped = bucket / kBucketsPerOctave - 1;
  const uint64_t low = (bucket - dropped * kBucketsPerOctave) << dropped;
  return absl::Microseconds(static_cast<int64_t>(low + ((1ULL << dropped) >> 1)));
}

}  // namespace

LatencyHistogram::LatencyHistogram() : buckets_(BucketOf(kTopMicroseconds) + 1) {}

void LatencyHistogram::Add(absl::Duration sample) {
  sample = std::clamp(sample, absl::ZeroDuration(), absl::Microseconds(kTopMicroseconds));
  ++buckets_[BucketOf(static_cast<uint64_t>(absl::ToInt64Microseconds(sample)))];
  ++count_;
  sum_ += sample;
  min_ = std::min(min_, sample);
  max_ = std::max(max_, sample);
}

void LatencyHistogram::Merge(const LatencyHistogram& other) {
  for (size_t i = 0; i < buckets_.size(); ++i) buckets_[i] += other.buckets_[i];
  count_ += other.count_;
  sum_ += other.sum_;
  min_ = std::min(min_, other.min_);
  max_ = std::max(max_, other.max_);
}

absl::Duration LatencyHistogram::Mean() const {
  return count_ == 0 ? absl::ZeroDuration() : sum_ / static_cast<double>(count_);
}

absl::Duration LatencyHistogram::Quantile(double quantile) const {
  if (count_ == 0) return absl::ZeroDuration();
  const double exact_rank = std::ceil(quantile * static_cast<double>(count_));
  const uint64_t rank = std::clamp<uint64_t>(static_cast<uint64_t>(exact_rank), 1, count_);
  if (rank == count_) return max_;
  uint64_t seen = 0;
  size_t bucket = 0;
  while ((seen += buckets_[bucket]) < rank) ++bucket;
  return std::clamp(MiddleOf(bucket), min_, max_);
}

}  // namespace phi::phictl
