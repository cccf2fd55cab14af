#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace phi::service {

// An average of tokens a minute. What a call will cost is known only at its end, so one may start
// while anything is left, and what it takes beyond is paid off before the next one starts; a caller
// that was idle has one minute's worth. Pure; of a clock that never goes back.
class TokenBucket {
 public:
  using Clock = std::chrono::steady_clock;

  TokenBucket(uint32_t per_minute, Clock::time_point now)
      : per_minute_(per_minute), level_(per_minute), filled_(now) {}

  // How long until a call may start; zero: now.
  std::chrono::milliseconds Wait(Clock::time_point now) {
    Fill(now);
    if (level_ > 0) return std::chrono::milliseconds(0);
    return std::chrono::milliseconds(1 + static_cast<int64_t>(-level_ / per_minute_ * 60'000));
  }

  void Take(uint64_t tokens, Clock::time_point now) {
    Fill(now);
    level_ -= static_cast<double>(tokens);
  }

  // Another rate from now on. What was saved up keeps to it.
  void SetRate(uint32_t per_minute, Clock::time_point now) {
    Fill(now);
    per_minute_ = per_minute;
    level_ = std::min(level_, per_minute_);
  }

 private:
  void Fill(Clock::time_point now) {
    const std::chrono::duration<double, std::ratio<60>> minutes = now - filled_;
    level_ = std::min(per_minute_, level_ + minutes.count() * per_minute_);
    filled_ = now;
  }

  double per_minute_;
  double level_;  // below zero: owed
  Clock::time_point filled_;
};

}  // namespace phi::service
