#include "service/worker/group/lifeline.h"

#include <unistd.h>

#include <cerrno>
#include <utility>

#include "service/api/exit_code.h"

namespace phi::service {

Lifeline::Lifeline(int fd) {
  std::thread([this, fd] { Listen(fd); }).detach();
}

void Lifeline::OnDrain(std::function<void()> on_drain) {
  absl::MutexLock lock(&mutex_);
  on_drain_ = std::move(on_drain);
  if (drain_asked_ && on_drain_) on_drain_();
}

void Lifeline::Listen(int fd) {
  for (;;) {
    char byte = 0;
    const ssize_t got = read(fd, &byte, 1);
    if (got < 0 && errno == EINTR) continue;
    // _exit: nothing here may wait for the other threads.
    if (got <= 0) _exit(static_cast<int>(ExitCode::kInternal));
    absl::MutexLock lock(&mutex_);
    if (!drain_asked_ && on_drain_) on_drain_();
    drain_asked_ = true;
  }
}

}  // namespace phi::service
