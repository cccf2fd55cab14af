#pragma once

#include <grpcpp/server_context.h>

#include <cstddef>
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "service/api/steady_clock.h"
#include "service/telemetry/metric_page.h"

namespace phi::service {

// The calls under way and the answers that their callers have not taken yet: how many there are,
// who reads too slowly, and whom a drain waits for. Any thread may call.
class ActiveCalls {
 public:
  class Call {
   public:
    virtual ~Call() = default;
    // Looked at regularly: ends itself if its reader has taken nothing for too long.
    virtual void Sweep(SteadyTime now) = 0;
    // Ends the call with `status` unless it has ended.
    virtual void Abort(const absl::Status& status) = 0;
  };

  ActiveCalls(const MetricPage& metrics, absl::Duration slow_reader_timeout);
  ~ActiveCalls();
  ActiveCalls(const ActiveCalls&) = delete;
  ActiveCalls& operator=(const ActiveCalls&) = delete;

  // The Generate calls: how many there were before this one, and how many of its caller.
  struct Counts {
    uint32_t all = 0;
    uint32_t of_caller = 0;
  };
  Counts Add(const std::shared_ptr<Call>& call, const std::string& caller)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Remove(const Call* call) ABSL_LOCKS_EXCLUDED(mutex_);

  // The calls of other methods, from their start until AddUntaken.
  void AddPlain() ABSL_LOCKS_EXCLUDED(mutex_);
  void RemovePlain() ABSL_LOCKS_EXCLUDED(mutex_);

  // Of a call of any method: gRPC is about to be given the end of its answer, and has been rid of
  // it (the reactor's OnDone). One that its caller does not take is thrown away.
  void AddUntaken(grpc::CallbackServerContext* rpc, const std::string& request_id)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void RemoveUntaken(grpc::CallbackServerContext* rpc) ABSL_LOCKS_EXCLUDED(mutex_);

  void BeginDrain() ABSL_LOCKS_EXCLUDED(mutex_);
  bool draining() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether all calls ended, and their answers were taken, before `timeout`.
  bool AwaitIdle(absl::Duration timeout) ABSL_LOCKS_EXCLUDED(mutex_);
  void AbortAll(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Active {
    std::weak_ptr<Call> call;
    std::string caller;
  };
  struct Untaken {
    SteadyTime since;
    std::string request_id;
    bool cut = false;
  };

  void Run();
  void SweepUntaken(SteadyTime now) ABSL_LOCKS_EXCLUDED(mutex_);
  bool idle() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return calls_.empty() && num_plain_ == 0 && untaken_.empty();
  }
  std::vector<std::shared_ptr<Call>> Calls() const ABSL_LOCKS_EXCLUDED(mutex_);

  const MetricPage::Series inflight_gauge_;
  const MetricPage::Series stalled_counter_;
  const absl::Duration slow_reader_timeout_;
  mutable absl::Mutex mutex_;
  std::unordered_map<const Call*, Active> calls_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<std::string, uint32_t> callers_
      ABSL_GUARDED_BY(mutex_);  // of calls_, none is 0
  size_t num_plain_ ABSL_GUARDED_BY(mutex_) = 0;
  std::unordered_map<grpc::CallbackServerContext*, Untaken> untaken_ ABSL_GUARDED_BY(mutex_);
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  SteadyCondition changed_;
  std::jthread sweeper_;
};

}  // namespace phi::service
