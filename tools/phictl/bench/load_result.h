#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "tools/phictl/bench/latency_histogram.h"
#include "tools/phictl/bench/slo.h"

// What came of a load. All latencies count from when a request was due, not from when it was sent:
// a generator that falls behind, or a connection that has no room, shows in them instead of
// thinning the load (no coordinated omission).
namespace phi::phictl {

// How one request went.
struct Outcome {
  enum class Ending : uint8_t {
    kAnswered,   // whole
    kFailed,     // with an error, or less than what was asked for
    kCancelled,  // by this client, as the load wanted it
    kSaturated,  // never sent: as many were in flight as this client carries
  };
  Ending ending = Ending::kAnswered;
  absl::Time due;
  absl::Time sent;
  std::optional<absl::Time> first_token;
  absl::Time last_token;
  absl::Time end;
  uint32_t num_tokens = 0;
  std::string code;    // of a failure: "RESOURCE_EXHAUSTED"
  std::string reason;  // of a failure: "QUEUE_FULL"; empty where the server gave none

  bool Meets(const Slo& slo) const;
};

// One stretch of the load's time.
struct Interval {
  LatencyHistogram first_token;  // of requests due in it
  uint64_t num_tokens = 0;       // that arrived in it
  uint64_t num_answered = 0;     // of requests due in it
  uint64_t num_failed = 0;       // of requests due in it, saturation included
};

// At most kIntervalsMax stretches from the load's start on: when it lasts longer, two become one.
class Timeline {
 public:
  static constexpr size_t kIntervalsMax = 120;

  explicit Timeline(absl::Time start) : start_(start) {}
  Interval& At(absl::Time time);
  const std::vector<Interval>& intervals() const { return intervals_; }
  absl::Duration interval() const { return interval_; }

 private:
  absl::Time start_;
  absl::Duration interval_ = absl::Milliseconds(125);
  std::vector<Interval> intervals_;
};

struct Failures {
  uint64_t count = 0;
  LatencyHistogram time;  // from when the request was due to its status
};

// Requests due in the window, that is after the warm-up and before the load's end.
struct LoadResult {
  absl::Duration window;
  uint64_t num_answered = 0;
  uint64_t num_cancelled = 0;
  uint64_t num_saturated = 0;
  uint64_t num_good = 0;                                             // answered within the SLO
  std::map<std::pair<std::string, std::string>, Failures> failures;  // by code and reason
  LatencyHistogram first_token;
  LatencyHistogram inter_token;  // between two messages of one stream
  LatencyHistogram total;
  LatencyHistogram send_delay;     // from due to sent: what this client itself added
  uint64_t num_window_tokens = 0;  // arrived within the window, of whichever request
  uint64_t num_tokens = 0;         // of the requests of the window
  uint64_t peak_inflight = 0;

  uint64_t num_failed() const;
  uint64_t num_requests() const;
  double PerSecond(uint64_t count) const;
};

struct LiveCounts {
  uint64_t inflight = 0;
  uint64_t num_ended = 0;
  uint64_t num_failed = 0;
  uint64_t num_tokens = 0;
};

// Takes in what the streams report. All methods may be called by any thread.
class LoadRecorder {
 public:
  // Counts requests due from `begin` on. `end` may be infinite: the window then ends with the last
  // answer.
  LoadRecorder(absl::Time start, absl::Time begin, absl::Time end, Slo slo);

  void OnStart() ABSL_LOCKS_EXCLUDED(mutex_);
  // A message with tokens; `gap` since the one before of the same stream, if there was one.
  void OnTokens(absl::Time due,
                absl::Time now,
                uint32_t num_tokens,
                std::optional<absl::Duration> gap) ABSL_LOCKS_EXCLUDED(mutex_);
  // Once for each request; OnStart came before unless it was never sent (kSaturated).
  void OnEnd(const Outcome& outcome) ABSL_LOCKS_EXCLUDED(mutex_);
  // The load was broken off: the window ends by `now`.
  void Cut(absl::Time now) ABSL_LOCKS_EXCLUDED(mutex_);

  LiveCounts live() const ABSL_LOCKS_EXCLUDED(mutex_);
  LoadResult result() const ABSL_LOCKS_EXCLUDED(mutex_);
  Timeline timeline() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  const absl::Time begin_;
  const Slo slo_;
  mutable absl::Mutex mutex_;
  absl::Time end_ ABSL_GUARDED_BY(mutex_);
  absl::Time last_end_ ABSL_GUARDED_BY(mutex_);
  LiveCounts live_ ABSL_GUARDED_BY(mutex_);
  LoadResult result_ ABSL_GUARDED_BY(mutex_);
  Timeline timeline_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace phi::phictl
