#pragma once

#include <sys/types.h>
#include <sys/wait.h>

#include <cerrno>
#include <chrono>
#include <optional>
#include <thread>

#include "absl/time/time.h"
#include "service/api/steady_clock.h"

namespace phi::service {

// The wait status of a child of this process, which is reaped; nothing where it is still there
// after `limit`: a killed one that stands in a driver or waits for a disk ends when that lets it
// go.
inline std::optional<int> AwaitExit(pid_t pid, absl::Duration limit) {
  constexpr auto kLook = std::chrono::milliseconds(1);
  const SteadyTime until = After(SteadyNow(), limit);
  while (true) {
    int wait_status = 0;
    const pid_t ended = waitpid(pid, &wait_status, WNOHANG);
    if (ended == pid) return wait_status;
    const bool is_there = ended == 0 || errno == EINTR;
    if (!is_there || SteadyNow() >= until) return std::nullopt;
    std::this_thread::sleep_for(kLook);
  }
}

}  // namespace phi::service
