#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <stop_token>
#include <thread>
#include <utility>

#include "absl/time/time.h"

namespace phi::service {

// Calls `work` every `interval`, the first time after one, on a thread of its own until destroyed.
class PeriodicThread {
 public:
  PeriodicThread(absl::Duration interval, std::function<void()> work)
      : thread_([interval, work = std::move(work)](std::stop_token ended) {
          std::mutex mutex;
          std::unique_lock lock(mutex);
          std::condition_variable_any wake;
          const auto over = [&ended] { return ended.stop_requested(); };
          while (!wake.wait_for(lock, ended, absl::ToChronoNanoseconds(interval), over)) work();
        }) {}

 private:
  std::jthread thread_;
};

}  // namespace phi::service
