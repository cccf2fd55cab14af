#pragma once

#include <chrono>
#include <condition_variable>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

// The clock of every time-out, age and duration: the wall clock may be set while we run.
namespace phi::service {

using SteadyTime = std::chrono::steady_clock::time_point;
using SteadyDuration = std::chrono::steady_clock::duration;

inline SteadyTime SteadyNow() { return std::chrono::steady_clock::now(); }

inline double Seconds(SteadyDuration duration) {
  return std::chrono::duration<double>(duration).count();
}

// `wait` after `from`; never, where `wait` is a year or more, so that sums of times cannot
// overflow.
inline SteadyTime After(SteadyTime from, std::chrono::nanoseconds wait) {
  constexpr auto kForever = std::chrono::hours(24 * 365);
  return wait >= kForever ? SteadyTime::max()
                          : from + std::chrono::duration_cast<SteadyDuration>(wait);
}
inline SteadyTime After(SteadyTime from, absl::Duration wait) {
  return After(from, absl::ToChronoNanoseconds(wait));
}

// Timed waits on an absl::Mutex. Its own ones sleep until a time of the wall clock (of the version
// that Debian has), so that one set back by an hour would make them last an hour.
class SteadyCondition {
 public:
  // Whether `done()` held before `deadline`. It is called with `mutex` held, at first, at every
  // NotifyAll and at the end.
  template <typename Done>
  bool WaitUntil(absl::Mutex& mutex, SteadyTime deadline, Done done)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    Lockable lockable{mutex};
    return changed_.wait_until(lockable, deadline, done);
  }
  // After every change that a wait may be for.
  void NotifyAll() { changed_.notify_all(); }

 private:
  struct Lockable {
    absl::Mutex& mutex;
    void lock() ABSL_NO_THREAD_SAFETY_ANALYSIS { mutex.Lock(); }
    void unlock() ABSL_NO_THREAD_SAFETY_ANALYSIS { mutex.Unlock(); }
  };
  std::condition_variable_any changed_;
};

}  // namespace phi::service
