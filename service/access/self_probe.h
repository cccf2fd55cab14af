#pragma once

#include <sys/socket.h>

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "service/access/periodic_thread.h"

namespace phi::service {

// Dials a gRPC port of this process as a stranger would. gRPC 1.51's listener never accepts again
// once file descriptors have run out, and connections still succeed, in the kernel's backlog: only
// one that asks for an answer sees it. Whoever restarts the program is then better than the rest of
// it.
class SelfProbe {
 public:
  struct Options {
    std::string listen;  // HOST:PORT of the listener
    int port = 0;        // the one that was bound
    absl::Duration interval = absl::Seconds(3);
    absl::Duration timeout = absl::Seconds(3);
    int max_failures = 4;  // in a row
    std::function<void()> on_stuck;
  };

  explicit SelfProbe(Options options);

  // Whether anything, be it a closed connection, answers what is no HTTP/2 and no TLS.
  bool Answers() const;

 private:
  void Look();

  struct Address {
    sockaddr_storage storage = {};
    socklen_t size = 0;  // 0: not known, and nothing is dialled
  };
  static Address Resolve(const Options& options);

  const Options options_;
  const Address address_;
  int failures_ = 0;
  PeriodicThread thread_;
};

// For on_stuck: says so in one line and ends the process with ExitCode::kInternal.
void EndStuckProcess();

}  // namespace phi::service
