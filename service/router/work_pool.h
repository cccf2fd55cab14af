#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <list>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace phi::service {

// A few threads behind one bounded queue: where prompts are tokenized, so that a long one holds up
// no RPC thread. A caller's tasks start in the order of Submit; callers take turns, a task each, so
// that one with hundreds of long prompts delays another's by one of them.
class WorkPool {
 public:
  WorkPool(size_t num_threads, size_t max_queued);
  // Runs what was submitted, then ends.
  ~WorkPool();
  WorkPool(const WorkPool&) = delete;
  WorkPool& operator=(const WorkPool&) = delete;

  // Any thread. False, and the task is dropped, while max_queued of them wait, or the caller's
  // share of that (service/api/fair_share.h).
  [[nodiscard]] bool Submit(const std::string& caller, std::function<void()> task)
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  using Task = std::function<void()>;
  struct Caller {
    std::string name;
    std::deque<Task> tasks = {};  // never empty
  };

  void Run();
  Task TakeNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool HasWorkOrEnds() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const size_t max_queued_;
  absl::Mutex mutex_;
  std::list<Caller> turns_ ABSL_GUARDED_BY(mutex_);  // whose turn it is, then who is next
  std::unordered_map<std::string, std::list<Caller>::iterator> callers_ ABSL_GUARDED_BY(mutex_);
  size_t num_queued_ ABSL_GUARDED_BY(mutex_) = 0;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::jthread> threads_;
};

}  // namespace phi::service
