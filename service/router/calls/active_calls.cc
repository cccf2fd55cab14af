#include "service/router/calls/active_calls.h"

namespace phi::service {

ActiveCalls::ActiveCalls(MetricPage::Series inflight_gauge, absl::Duration sweep_interval)
    : inflight_gauge_(inflight_gauge),
      sweep_interval_(sweep_interval),
      sweeper_([this] { Run(); }) {}

ActiveCalls::~ActiveCalls() {
  {
    const absl::MutexLock lock(&mutex_);
    ending_ = true;
  }
  changed_.NotifyAll();
  sweeper_.join();
}

size_t ActiveCalls::Add(const std::shared_ptr<Call>& call) {
  const absl::MutexLock lock(&mutex_);
  const size_t before = calls_.size();
  calls_.emplace(call.get(), call);
  inflight_gauge_.Set(static_cast<double>(calls_.size()));
  return before;
}

void ActiveCalls::Remove(const Call* call) {
  const absl::MutexLock lock(&mutex_);
  calls_.erase(call);
  inflight_gauge_.Set(static_cast<double>(calls_.size()));
  if (draining_ && calls_.empty()) changed_.NotifyAll();
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
                            [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return calls_.empty(); });
}

void ActiveCalls::AbortAll(const absl::Status& status) {
  for (const auto& call : Calls()) call->Abort(status);
}

std::vector<std::shared_ptr<ActiveCalls::Call>> ActiveCalls::Calls() const {
  const absl::MutexLock lock(&mutex_);
  std::vector<std::shared_ptr<Call>> calls;
  for (const auto& [unused, weak] : calls_) {
    if (auto call = weak.lock(); call != nullptr) calls.push_back(std::move(call));
  }
  return calls;
}

void ActiveCalls::Run() {
  while (true) {
    {
      const absl::MutexLock lock(&mutex_);
      const auto ending = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return ending_; };
      if (changed_.WaitUntil(mutex_, After(SteadyNow(), sweep_interval_), ending)) return;
    }
    // A call locks itself and then this registry; so this one must not be held here.
    for (const auto& call : Calls()) call->Sweep(SteadyNow());
  }
}

}  // namespace phi::service
