#pragma once

namespace phi::service {

// SIGTERM and SIGINT, which ask this process to end, and SIGCHLD, read from a descriptor instead of
// handled. Made before any thread, which then inherit the blocked signals; SIGPIPE is ignored from
// then on.
class EndSignals {
 public:
  EndSignals();
  ~EndSignals();
  EndSignals(const EndSignals&) = delete;
  EndSignals& operator=(const EndSignals&) = delete;

  // How many requests to end came, within `timeout_ms` or by the first signal of any kind.
  int Wait(int timeout_ms);

 private:
  int fd_ = -1;
};

}  // namespace phi::service
