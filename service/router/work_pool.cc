#include "service/router/work_pool.h"

#include <utility>

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

bool WorkPool::Submit(std::function<void()> task) {
  const absl::MutexLock lock(&mutex_);
  if (ending_ || queue_.size() >= max_queued_) return false;
  queue_.push_back(std::move(task));
  return true;
}

bool WorkPool::HasWorkOrEnds() const { return ending_ || !queue_.empty(); }

void WorkPool::Run() {
  while (true) {
    std::function<void()> task;
    {
      const absl::MutexLock lock(&mutex_, absl::Condition(this, &WorkPool::HasWorkOrEnds));
      if (queue_.empty()) return;
      task = std::move(queue_.front());
      queue_.pop_front();
    }
    task();
  }
}

}  // namespace phi::service
