#include "tools/phictl/bench/load_result.h"

#include <gmock/gmock.h>

#include <cmath>
#include <random>

namespace phi::phictl {
namespace {

using Ending = Outcome::Ending;

constexpr absl::Duration kMs = absl::Milliseconds(1);
const absl::Time kStart = absl::FromUnixSeconds(1'000'000);

// An answer of `num_tokens`, one every `gap` after a first one that took `first`.
Outcome Answer(absl::Duration due, absl::Duration first, uint32_t num_tokens, absl::Duration gap) {
  Outcome outcome;
  outcome.due = kStart + due;
  outcome.sent = outcome.due;
  outcome.first_token = outcome.due + first;
  outcome.num_tokens = num_tokens;
  outcome.last_token = *outcome.first_token + gap * (num_tokens - 1);
  outcome.end = outcome.last_token;
  return outcome;
}

Outcome Failure(absl::Duration due, const char* code, const char* reason) {
  Outcome outcome;
  outcome.ending = Ending::kFailed;
  outcome.due = outcome.sent = kStart + due;
  outcome.end = outcome.due + 2 * kMs;
  outcome.code = code;
  outcome.reason = reason;
  return outcome;
}

LoadRecorder Recorder(absl::Duration begin, absl::Duration end, const Slo& slo = {}) {
  return LoadRecorder(kStart, kStart + begin, kStart + end, slo);
}

void RunOne(LoadRecorder& recorder, const Outcome& outcome) {
  recorder.OnStart();
  recorder.OnEnd(outcome);
}

TEST(LatencyHistogramTest, QuantilesAreNearestRankWithinAPercent) {
  std::mt19937_64 random(3);
  std::lognormal_distribution<double> distribution(9, 3);  // microseconds, over six decades
  LatencyHistogram histogram;
  std::vector<double> samples;
  for (int i = 0; i < 5000; ++i) {
    samples.push_back(std::round(distribution(random)));
    histogram.Add(absl::Microseconds(samples.back()));
  }
  std::sort(samples.begin(), samples.end());
  for (const double quantile : {0.0, 0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0}) {
    const double rank = std::max(1.0, std::ceil(quantile * 5000));
    const double exact = samples[static_cast<size_t>(rank) - 1];
    // Half of a bucket, of which an octave has 64.
    EXPECT_NEAR(absl::ToDoubleMicroseconds(histogram.Quantile(quantile)), exact, exact / 128 + 0.5)
        << quantile;
  }
  EXPECT_EQ(histogram.max(), absl::Microseconds(samples.back()));
}

TEST(LatencyHistogramTest, KeepsToItsRangeAndMerges) {
  LatencyHistogram empty;
  EXPECT_EQ(empty.Quantile(0.5), absl::ZeroDuration());
  LatencyHistogram low;
  low.Add(absl::Seconds(-1));
  low.Add(3 * kMs);
  LatencyHistogram high;
  high.Add(absl::InfiniteDuration());
  high.Merge(low);
  EXPECT_EQ(high.count(), 3U);
  EXPECT_EQ(high.Quantile(0.01), absl::ZeroDuration());
  EXPECT_NEAR(absl::ToDoubleMilliseconds(high.Quantile(0.5)), 3, 3.0 / 128);
  EXPECT_GT(high.max(), absl::Hours(18));
}

TEST(SloTest, ReadsAnyOfItsLimitsOnce) {
  const auto slo = Slo::Parse("itl=50ms,ttft=1.5s");
  ASSERT_TRUE(slo.ok());
  EXPECT_EQ(slo->first_token, absl::Milliseconds(1500));
  EXPECT_EQ(slo->inter_token, 50 * kMs);
  EXPECT_EQ(slo->total, absl::InfiniteDuration());
  for (const char* bad :
       {"", "ttft", "ttft=5", "ttft=0s", "ttft=-1s", "p99=1s", "ttft=1s,ttft=2s", "ttft=1s,"}) {
    EXPECT_FALSE(Slo::Parse(bad).ok()) << bad;
  }
}

TEST(LoadRecorderTest, GoodputTakesWholeAnswersWithinEveryLimit) {
  const Slo slo = *Slo::Parse("ttft=100ms,itl=10ms,total=1s");
  LoadRecorder recorder = Recorder(absl::ZeroDuration(), absl::Seconds(2), slo);
  RunOne(recorder, Answer(0 * kMs, 100 * kMs, 11, 10 * kMs));    // at the limits
  RunOne(recorder, Answer(0 * kMs, 101 * kMs, 11, 1 * kMs));     // first token late
  RunOne(recorder, Answer(0 * kMs, 10 * kMs, 11, 11 * kMs));     // slow
  RunOne(recorder, Answer(0 * kMs, 10 * kMs, 101, 9.95 * kMs));  // whole time too long
  RunOne(recorder, Answer(0 * kMs, 10 * kMs, 1, 0 * kMs));       // one token has no gap
  RunOne(recorder, Failure(0 * kMs, "UNAVAILABLE", "DRAINING"));
  const LoadResult result = recorder.result();
  EXPECT_EQ(result.num_answered, 5U);
  EXPECT_EQ(result.num_good, 2U);
  EXPECT_DOUBLE_EQ(result.PerSecond(result.num_good), 1.0);
}

TEST(LoadRecorderTest, CountsEachEndingAndOnlyRequestsDueInTheWindow) {
  LoadRecorder recorder = Recorder(absl::Seconds(1), absl::Seconds(3));
  RunOne(recorder, Answer(999 * kMs, 5 * kMs, 2, kMs));         // warm-up
  RunOne(recorder, Answer(absl::Seconds(3), 5 * kMs, 2, kMs));  // after the end
  RunOne(recorder, Answer(absl::Seconds(1), 5 * kMs, 2, kMs));
  RunOne(recorder, Failure(absl::Seconds(2), "RESOURCE_EXHAUSTED", "QUEUE_FULL"));
  RunOne(recorder, Failure(absl::Seconds(2), "RESOURCE_EXHAUSTED", "QUEUE_FULL"));
  RunOne(recorder, Failure(absl::Seconds(2), "UNAVAILABLE", ""));
  Outcome cancelled = Answer(absl::Seconds(2), 5 * kMs, 2, kMs);
  cancelled.ending = Ending::kCancelled;
  RunOne(recorder, cancelled);
  Outcome saturated = Answer(absl::Seconds(2), 5 * kMs, 1, kMs);
  saturated.ending = Ending::kSaturated;
  recorder.OnEnd(saturated);
  const LoadResult result = recorder.result();
  EXPECT_EQ(result.num_requests(), 6U);
  EXPECT_EQ(result.num_answered, 1U);
  EXPECT_EQ(result.num_cancelled, 1U);
  EXPECT_EQ(result.num_saturated, 1U);
  EXPECT_EQ(result.failures.at({"RESOURCE_EXHAUSTED", "QUEUE_FULL"}).count, 2U);
  EXPECT_EQ(result.failures.at({"UNAVAILABLE", ""}).count, 1U);
  EXPECT_EQ(result.window, absl::Seconds(2));
  EXPECT_EQ(result.peak_inflight, 1U);
  EXPECT_EQ(recorder.live().inflight, 0U);
  EXPECT_EQ(recorder.live().num_ended, 8U);
}

TEST(LoadRecorderTest, LatencyCountsFromWhenTheRequestWasDue) {
  LoadRecorder recorder = Recorder(absl::ZeroDuration(), absl::Seconds(10));
  Outcome late = Answer(absl::ZeroDuration(), 10 * kMs, 3, 10 * kMs);
  late.sent += 400 * kMs;  // the generator fell behind: as bad for the caller as a slow server
  *late.first_token += 400 * kMs;
  late.last_token += 400 * kMs;
  late.end += 400 * kMs;
  RunOne(recorder, late);
  const LoadResult result = recorder.result();
  EXPECT_EQ(result.first_token.max(), 410 * kMs);
  EXPECT_EQ(result.total.max(), 430 * kMs);
  EXPECT_EQ(result.send_delay.max(), 400 * kMs);
}

TEST(LoadRecorderTest, TokensCountByWhenTheyArrive) {
  LoadRecorder recorder = Recorder(absl::Seconds(1), absl::Seconds(2));
  recorder.OnTokens(kStart, kStart + 900 * kMs, 5, std::nullopt);
  recorder.OnTokens(kStart, kStart + 1100 * kMs, 7, 200 * kMs);  // of a warm-up request
  recorder.OnTokens(kStart + absl::Seconds(1), kStart + 1500 * kMs, 3, 20 * kMs);
  recorder.OnTokens(kStart + absl::Seconds(1), kStart + 2500 * kMs, 9, 30 * kMs);
  const LoadResult result = recorder.result();
  EXPECT_EQ(result.num_window_tokens, 10U);
  EXPECT_EQ(result.inter_token.count(), 2U);
  EXPECT_EQ(recorder.live().num_tokens, 24U);
}

TEST(LoadRecorderTest, AWindowWithoutEndEndsWithTheLastAnswerOrIsCut) {
  LoadRecorder recorder(kStart, kStart, absl::InfiniteFuture(), {});
  RunOne(recorder, Answer(absl::Seconds(1), 500 * kMs, 1, kMs));
  EXPECT_EQ(recorder.result().window, absl::Milliseconds(1500));
  recorder.Cut(kStart + absl::Seconds(4));
  EXPECT_EQ(recorder.result().window, absl::Seconds(4));
}

TEST(TimelineTest, StaysBoundedAndKeepsItsSums) {
  Timeline timeline(kStart);
  for (int i = 0; i < 100'000; ++i) {
    Interval& interval = timeline.At(kStart + absl::Milliseconds(77) * i);
    ++interval.num_answered;
    interval.first_token.Add(kMs);
  }
  ASSERT_LE(timeline.intervals().size(), Timeline::kIntervalsMax);
  ASSERT_GT(timeline.intervals().size(), Timeline::kIntervalsMax / 2);
  uint64_t answered = 0;
  uint64_t samples = 0;
  for (const Interval& interval : timeline.intervals()) {
    answered += interval.num_answered;
    samples += interval.first_token.count();
  }
  EXPECT_EQ(answered, 100'000U);
  EXPECT_EQ(samples, 100'000U);
  timeline.At(kStart - absl::Seconds(1)).num_failed = 1;  // a clock that steps back does no harm
  EXPECT_EQ(timeline.intervals().front().num_failed, 1U);
}

}  // namespace
}  // namespace phi::phictl
