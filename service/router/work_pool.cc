#include "service/router/work_pool.h"

#include <iterator>
#include <utility>

#include "service/api/fair_share.h"

namespace phi::service {

WorkPool::WorkPool(size_t num_threads, size_t max_queued) : max_queued_(max_queued) {
  for (size_t i = 0; i < num_threads; ++i) {
    threads_.emplace_back([this] { Run(); });
  }
}

WorkPool::~WorkPool() {
  {
    const absl::MutexLock lock(&mutex_);
    ending_ = true;
  }
  threads_.clear();  // joins before the queue goes
}

bool WorkPool::Submit(const std::string& caller, Task task) {
  const absl::MutexLock lock(&mutex_);
  if (ending_ || num_queued_ >= max_queued_) return false;
  auto known = callers_.find(caller);
  const size_t own = known == callers_.end() ? 0 : known->second->tasks.size();
  if (!HasShareLeft({.own = own, .all = num_queued_, .places = max_queued_})) return false;
  if (own == 0) {
    turns_.push_back({.name = caller});
    known = callers_.emplace(caller, std::prev(turns_.end())).first;
  }
  known->second->tasks.push_back(std::move(task));
  ++num_queued_;
  return true;
}

WorkPool::Task WorkPool::TakeNext() {
  Caller& caller = turns_.front();
  Task task = std::move(caller.tasks.front());
  caller.tasks.pop_front();
  --num_queued_;
  if (caller.tasks.empty()) {
    callers_.erase(caller.name);
    turns_.pop_front();
  } else {
    turns_.splice(turns_.end(), turns_, turns_.begin());
  }
  return task;
}

bool WorkPool::HasWorkOrEnds() const { return ending_ || num_queued_ > 0; }

void WorkPool::Run() {
  while (true) {
    Task task;
    {
      const absl::MutexLock lock(&mutex_, absl::Condition(this, &WorkPool::HasWorkOrEnds));
      if (num_queued_ == 0) return;
      task = TakeNext();
    }
    task();
  }
}

}  // namespace phi::service
