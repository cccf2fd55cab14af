#pragma once

#include <functional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace phi::service {

// A rank's end of the pipe to its supervisor. End of file means that the supervisor is gone: the
// process ends at once, in whatever it is, so that no rank is left behind. A byte asks for a drain.
class Lifeline {
 public:
  // Starts the thread that listens; it lasts as long as the process.
  explicit Lifeline(int fd);
  Lifeline(const Lifeline&) = delete;
  Lifeline& operator=(const Lifeline&) = delete;

  // `on_drain` is called by the listening thread, once; at once where a drain was asked for before.
  void OnDrain(std::function<void()> on_drain) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void Listen(int fd) ABSL_LOCKS_EXCLUDED(mutex_);

  absl::Mutex mutex_;
  bool drain_asked_ ABSL_GUARDED_BY(mutex_) = false;
  std::function<void()> on_drain_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace phi::service
