#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace phi::service {

// Starts `program` with `args`, in a process group of its own, so that a Ctrl-C on the terminal
// reaches it through us alone. It gets SIGTERM when this process dies, however that happens.
// UNAVAILABLE naming the program that cannot be started.
absl::StatusOr<pid_t> StartChild(const std::string& program, const std::vector<std::string>& args);

// What a shell would say: the exit code, or 70 (internal) for a child that a signal ended.
int ExitCodeOf(int wait_status);

// A port of 127.0.0.1 that nothing listens on now; 0 when there is none.
int FreePort();

}  // namespace phi::service
