#pragma once

#include <cstddef>
#include <memory>
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

// The Generate calls under way: how many there are, who reads too slowly, and whom a drain waits
// for. Any thread may call.
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

  ActiveCalls(MetricPage::Series inflight_gauge, absl::Duration sweep_interval);
  ~ActiveCalls();
  ActiveCalls(const ActiveCalls&) = delete;
  ActiveCalls& operator=(const ActiveCalls&) = delete;

  // How many there were before this one.
  size_t Add(const std::shared_ptr<Call>& call) ABSL_LOCKS_EXCLUDED(mutex_);
  void Remove(const Call* call) ABSL_LOCKS_EXCLUDED(mutex_);

  void BeginDrain() ABSL_LOCKS_EXCLUDED(mutex_);
  bool draining() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether all calls ended before `timeout`.
  bool AwaitIdle(absl::Duration timeout) ABSL_LOCKS_EXCLUDED(mutex_);
  void AbortAll(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void Run();
  std::vector<std::shared_ptr<Call>> Calls() const ABSL_LOCKS_EXCLUDED(mutex_);

  const MetricPage::Series inflight_gauge_;
  const absl::Duration sweep_interval_;
  mutable absl::Mutex mutex_;
  std::unordered_map<const Call*, std::weak_ptr<Call>> calls_ ABSL_GUARDED_BY(mutex_);
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  SteadyCondition changed_;
  std::jthread sweeper_;
};

}  // namespace phi::service
