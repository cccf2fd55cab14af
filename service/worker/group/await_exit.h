#pragma once

#include <sys/types.h>

#include <optional>

#include "absl/time/time.h"

namespace phi::service {

// The wait status of a child of this process, which is reaped; nothing where it is still there
// after `limit`: a killed one that stands in a driver or waits for a disk ends when that lets it
// go.
std::optional<int> AwaitExit(pid_t pid, absl::Duration limit);

}  // namespace phi::service
