#include "service/worker/end_signals.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <initializer_list>

namespace phi::service {

EndSignals::EndSignals() {
  sigset_t set;
  sigemptyset(&set);
  for (int number : {SIGTERM, SIGINT, SIGCHLD}) sigaddset(&set, number);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_IGN);
  fd_ = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

EndSignals::~EndSignals() { close(fd_); }

int EndSignals::Wait(int timeout_ms) {
  pollfd entry{.fd = fd_, .events = POLLIN, .revents = 0};
  poll(&entry, 1, timeout_ms);
  int requests = 0;
  signalfd_siginfo info;
  while (read(fd_, &info, sizeof(info)) == sizeof(info)) {
    requests += info.ssi_signo == SIGCHLD ? 0 : 1;
  }
  return requests;
}

}  // namespace phi::service
