#include "tools/phictl/bench/load_result.h"

#include <algorithm>

namespace phi::phictl {

bool Outcome::Meets(const Slo& slo) const {
  if (ending != Ending::kAnswered || !first_token.has_value()) return false;
  const absl::Duration inter_token =
      num_tokens < 2 ? absl::ZeroDuration() : (last_token - *first_token) / (num_tokens - 1);
  return *first_token - due <= slo.first_token && inter_token <= slo.inter_token &&
         end - due <= slo.total;
}

Interval& Timeline::At(absl::Time time) {
  const absl::Duration since = std::max(time - start_, absl::ZeroDuration());
  while (since >= interval_ * kIntervalsMax) {
    std::vector<Interval> halved((intervals_.size() + 1) / 2);
    for (size_t i = 0; i < intervals_.size(); ++i) {
      halved[i / 2].first_token.Merge(intervals_[i].first_token);
      halved[i / 2].num_tokens += intervals_[i].num_tokens;
      halved[i / 2].num_answered += intervals_[i].num_answered;
      halved[i / 2].num_failed += intervals_[i].num_failed;
    }
    intervals_ = std::move(halved);
    interval_ *= 2;
  }
  const auto index = static_cast<size_t>(since / interval_);
  if (index >= intervals_.size()) intervals_.resize(index + 1);
  return intervals_[index];
}

uint64_t LoadResult::num_failed() const {
  uint64_t count = 0;
  for (const auto& [key, failures] : failures) count += failures.count;
  return count;
}

uint64_t LoadResult::num_requests() const {
  return num_answered + num_failed() + num_cancelled + num_saturated;
}

double LoadResult::PerSecond(uint64_t count) const {
  const double seconds = absl::ToDoubleSeconds(window);
  return seconds > 0 ? static_cast<double>(count) / seconds : 0;
}

LoadRecorder::LoadRecorder(absl::Time start, absl::Time begin, absl::Time end, Slo slo)
    : begin_(begin), slo_(slo), end_(end), last_end_(begin), timeline_(start) {}

void LoadRecorder::OnStart() {
  const absl::MutexLock lock(&mutex_);
  ++live_.inflight;
  result_.peak_inflight = std::max(result_.peak_inflight, live_.inflight);
}

void LoadRecorder::OnTokens(absl::Time due,
                            absl::Time now,
                            uint32_t num_tokens,
                            std::optional<absl::Duration> gap) {
  const absl::MutexLock lock(&mutex_);
  live_.num_tokens += num_tokens;
  timeline_.At(now).num_tokens += num_tokens;
  if (now >= begin_ && now < end_) result_.num_window_tokens += num_tokens;
  if (due >= begin_ && due < end_ && gap.has_value()) result_.inter_token.Add(*gap);
}

void LoadRecorder::OnEnd(const Outcome& outcome) {
  using Ending = Outcome::Ending;
  const absl::MutexLock lock(&mutex_);
  const bool failed = outcome.ending == Ending::kFailed || outcome.ending == Ending::kSaturated;
  if (outcome.ending != Ending::kSaturated) --live_.inflight;
  ++live_.num_ended;
  live_.num_failed += failed ? 1 : 0;
  Interval& interval = timeline_.At(outcome.due);
  interval.num_failed += failed ? 1 : 0;
  interval.num_answered += outcome.ending == Ending::kAnswered ? 1 : 0;
  if (outcome.first_token.has_value()) {
    interval.first_token.Add(*outcome.first_token - outcome.due);
  }
  last_end_ = std::max(last_end_, outcome.end);
  if (outcome.due < begin_ || outcome.due >= end_) return;
  if (outcome.ending == Ending::kSaturated) {
    ++result_.num_saturated;
    return;
  }
  result_.send_delay.Add(outcome.sent - outcome.due);
  result_.num_tokens += outcome.num_tokens;
  if (outcome.first_token.has_value()) result_.first_token.Add(*outcome.first_token - outcome.due);
  if (outcome.ending == Ending::kAnswered) {
    ++result_.num_answered;
    result_.num_good += outcome.Meets(slo_) ? 1 : 0;
    result_.total.Add(outcome.end - outcome.due);
  } else if (outcome.ending == Ending::kCancelled) {
    ++result_.num_cancelled;
  } else {
    Failures& failures = result_.failures[{outcome.code, outcome.reason}];
    ++failures.count;
    failures.time.Add(outcome.end - outcome.due);
  }
}

void LoadRecorder::Cut(absl::Time now) {
  const absl::MutexLock lock(&mutex_);
  end_ = std::min(end_, now);
}

LiveCounts LoadRecorder::live() const {
  const absl::MutexLock lock(&mutex_);
  return live_;
}

LoadResult LoadRecorder::result() const {
  const absl::MutexLock lock(&mutex_);
  LoadResult result = result_;
  const absl::Time end = end_ == absl::InfiniteFuture() ? last_end_ : end_;
  result.window = std::max(end - begin_, absl::ZeroDuration());
  return result;
}

Timeline LoadRecorder::timeline() const {
  const absl::MutexLock lock(&mutex_);
  return timeline_;
}

}  // namespace phi::phictl
