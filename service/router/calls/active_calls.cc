#include "service/router/calls/active_calls.h"

#include <algorithm>

#include "service/telemetry/logging.h"
#include "service/telemetry/metric_catalog.h"
#include "service/telemetry/metric_labels.h"

namespace phi::service {

ActiveCalls::ActiveCalls(const MetricPage& metrics, absl::Duration slow_reader_timeout)
    : inflight_gauge_(metrics.Get(MetricId::kRouterInflightRequests)),
      stalled_counter_(metrics.Get(MetricId::kRouterSlowReadersTotal, {SlowReaderLabel::kStalled})),
      slow_reader_timeout_(slow_reader_timeout),
      sweeper_([this] { Run(); }) {}

ActiveCalls::~ActiveCalls() {
  {
    const absl::MutexLock lock(&mutex_);
    ending_ = true;
  }
  changed_.NotifyAll();
  sweeper_.join();
}

ActiveCalls::Counts ActiveCalls::Add(const std::shared_ptr<Call>& call, const std::string& caller) {
  const absl::MutexLock lock(&mutex_);
  const Counts before = {.all = static_cast<uint32_t>(calls_.size()),
                         .of_caller = callers_[caller]++};
  calls_.emplace(call.get(), Active{call, caller});
  inflight_gauge_.Set(static_cast<double>(calls_.size()));
  return before;
}

void ActiveCalls::Remove(const Call* call) {
  const absl::MutexLock lock(&mutex_);
  const auto found = calls_.find(call);
  if (found == calls_.end()) return;
  if (const auto caller = callers_.find(found->second.caller); --caller->second == 0)
    callers_.erase(caller);
  calls_.erase(found);
  inflight_gauge_.Set(static_cast<double>(calls_.size()));
  if (draining_ && idle()) changed_.NotifyAll();
}

void ActiveCalls::AddPlain() {
  const absl::MutexLock lock(&mutex_);
  ++num_plain_;
}

void ActiveCalls::RemovePlain() {
  const absl::MutexLock lock(&mutex_);
  --num_plain_;
  if (draining_ && idle()) changed_.NotifyAll();
}

void ActiveCalls::AddUntaken(grpc::CallbackServerContext* rpc, const std::string& request_id) {
  const absl::MutexLock lock(&mutex_);
  untaken_.emplace(rpc, Untaken{.since = SteadyNow(), .request_id = request_id});
}

void ActiveCalls::RemoveUntaken(grpc::CallbackServerContext* rpc) {
  const absl::MutexLock lock(&mutex_);
  untaken_.erase(rpc);
  if (draining_ && idle()) changed_.NotifyAll();
}

void ActiveCalls::BeginDrain() {
  const absl::MutexLock lock(&mutex_);
  draining_ = true;
}

bool ActiveCalls::draining() const {
  const absl::MutexLock lock(&mutex_);
  return draining_;
}

bool ActiveCalls::AwaitIdle(absl::Duration timeout) {
  const absl::MutexLock lock(&mutex_);
  return changed_.WaitUntil(mutex_,
                            After(SteadyNow(), timeout),
                            [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return idle(); });
}

void ActiveCalls::AbortAll(const absl::Status& status) {
  for (const auto& call : Calls()) call->Abort(status);
}

std::vector<std::shared_ptr<ActiveCalls::Call>> ActiveCalls::Calls() const {
  const absl::MutexLock lock(&mutex_);
  std::vector<std::shared_ptr<Call>> calls;
  for (const auto& [unused, active] : calls_) {
    if (auto call = active.call.lock(); call != nullptr) calls.push_back(std::move(call));
  }
  return calls;
}

void ActiveCalls::SweepUntaken(SteadyTime now) {
  const absl::MutexLock lock(&mutex_);
  for (auto& [rpc, untaken] : untaken_) {
    if (untaken.cut || now < After(untaken.since, slow_reader_timeout_)) continue;
    untaken.cut = true;
    stalled_counter_.Add(1);
    LogInfo("the end of an answer was not taken",
            {{"request_id", untaken.request_id}, {"reason", "slow_reader"}});
    rpc->TryCancel();  // its OnDone waits for the mutex, so that it is still there
  }
}

void ActiveCalls::Run() {
  const absl::Duration interval =
      std::clamp(slow_reader_timeout_ / 4, absl::Milliseconds(10), absl::Seconds(1));
  while (true) {
    {
      const absl::MutexLock lock(&mutex_);
      const auto ending = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return ending_; };
      if (changed_.WaitUntil(mutex_, After(SteadyNow(), interval), ending)) return;
    }
    // A call locks itself and then this registry; so this one must not be held here.
    for (const auto& call : Calls()) call->Sweep(SteadyNow());
    SweepUntaken(SteadyNow());
  }
}

}  // namespace phi::service
