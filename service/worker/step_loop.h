#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "service/worker/engine_request.h"
#include "service/worker/leader_metrics.h"
#include "service/worker/scheduler.h"
#include "shard/rank.h"

namespace phi::service {

struct StepLoopOptions {
  SchedulerLimits limits;
  uint64_t epoch = 1;
  // An idle plan goes out that often, so that a frozen rank is seen without traffic.
  SteadyDuration idle_interval = std::chrono::milliseconds(500);
  // Warm-up sets the prompt chunk so that a step takes at most a quarter of it.
  SteadyDuration stall_limit = std::chrono::seconds(10);
};

// What a replica tells routers of its load.
struct EngineLoad {
  Occupancy occupancy;  // arrivals that no step has seen yet included
  KvBlockPool::Counts kv;
  SteadyDuration deadline_margin{};
  bool draining = false;
};

// The leader's one thread that owns scheduling: arrivals and cancellations in, a plan to all ranks,
// this rank's step, tokens to their sinks. It has no transport: plans leave by a function, requests
// come by calls.
//
// Threads: WarmUp and Start once, from one thread; the rest from any. Rank and sinks are called by
// the loop's thread only.
class StepLoop {
 public:
  // Sends a plan to the other ranks.
  using Broadcast = std::function<absl::Status(const shard::StepPlan&)>;

  // `rank` and `metrics` outlive the loop.
  StepLoop(const StepLoopOptions& options,
           shard::Rank* rank,
           Broadcast broadcast,
           const LeaderMetrics* metrics);
  // Ends what is left as REPLICA_LOST.
  ~StepLoop();

  // A prefill and a decode on every rank; they time the machine, from which the prompt chunks are
  // set. Before Start.
  absl::Status WarmUp();
  void Start();

  // Refused at once as CheckAdmission says, or DRAINING, or REPLICA_LOST; else the sink's OnEnd
  // will come (I3).
  absl::Status Submit(EngineRequest request, std::shared_ptr<TokenSink> sink)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // The request ends as CANCELLED before the next step, unless it has ended.
  void Cancel(uint64_t request_id) ABSL_LOCKS_EXCLUDED(mutex_);
  // The router found a stop (`reason`) in that sample's text: it ends before the next step without
  // further tokens; where it was the last one, OnEnd(OK) follows.
  void EndSample(uint64_t request_id, uint32_t sample, FinishReason reason)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Refuses new requests, ends those that wait as DRAINING, lets the running ones finish until
  // `deadline` and ends them as DRAIN_TIMEOUT then. Wait() returns after that.
  void Drain(SteadyTime deadline) ABSL_LOCKS_EXCLUDED(mutex_);
  // OK once drained; an error once a step failed, which loses the replica (I5). All sinks have had
  // their OnEnd.
  absl::Status Wait() ABSL_LOCKS_EXCLUDED(mutex_);

  EngineLoad load() const ABSL_LOCKS_EXCLUDED(mutex_);
  ChunkLimits chunk_limits() const { return chunks_; }

 private:
  struct Arrival {
    EngineRequest request;
    std::shared_ptr<TokenSink> sink;
  };
  struct EndedSample {
    uint64_t request_id = 0;
    uint32_t sample = 0;
    FinishReason reason = FinishReason::kStopString;
  };
  // What other threads left for the loop. Bounded: arrivals by CheckAdmission, the others by the
  // requests under way and their samples.
  struct Inbox {
    std::vector<Arrival> arrivals;
    std::vector<uint64_t> cancellations;
    std::vector<EndedSample> ended_samples;
    bool stop = false;
    bool draining = false;
    SteadyTime drain_deadline;
  };

  void Run();
  // Waits for something to do, idle_interval at most when there are no requests.
  Inbox TakeInbox() ABSL_LOCKS_EXCLUDED(mutex_);
  void TakeArrivals(Inbox& inbox, SteadyTime now);
  // Whether the loop goes on.
  bool FollowDrain(const Inbox& inbox, SteadyTime now);
  absl::Status RunStep();
  absl::StatusOr<shard::StepResult> Execute(shard::StepPlan& plan);
  absl::StatusOr<double> TimeWarmUpStep(uint32_t num_tokens, uint32_t first_position);
  void Deliver(const std::vector<RequestEvent>& events);
  void NoteStepSeconds(double seconds);
  void PublishLoad() ABSL_LOCKS_EXCLUDED(mutex_);
  void Close(const absl::Status& status, const absl::Status& request_status)
      ABSL_LOCKS_EXCLUDED(mutex_);

  const StepLoopOptions options_;
  shard::Rank* const rank_;
  const Broadcast broadcast_;
  const LeaderMetrics* const metrics_;

  // The loop's thread only (WarmUp runs before it).
  Scheduler scheduler_;
  ChunkLimits chunks_;
  // Owners: this map until OnEnd, and the sink's own transport for as long as it needs it.
  std::unordered_map<uint64_t, std::shared_ptr<TokenSink>> sinks_;
  SchedulerCounts told_counts_;
  uint64_t next_step_ = 0;
  double recent_step_seconds_ = 0;
  bool waiting_failed_ = false;

  mutable absl::Mutex mutex_;
  Inbox inbox_ ABSL_GUARDED_BY(mutex_);
  SteadyCondition mail_;  // inbox_ has something
  uint32_t inbox_tokens_ ABSL_GUARDED_BY(mutex_) = 0;
  EngineLoad load_ ABSL_GUARDED_BY(mutex_);  // of the scheduler, without the inbox
  // By caller, the inbox included; who has been seated since the last step still counts.
  std::unordered_map<std::string, Waiting> waiting_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status outcome_ ABSL_GUARDED_BY(mutex_);

  std::thread thread_;
};

}  // namespace phi::service
