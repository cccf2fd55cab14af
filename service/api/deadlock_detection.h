#pragma once

#include "absl/synchronization/mutex.h"

namespace phi::service {

// To be called first in main. Debian builds abseil with its assertions, and then every lock of
// every absl::Mutex, gRPC's own included, enters a graph of the whole process under one spin lock
// to find deadlocks: a tenth of the router's processor time. That is for builds to work with, where
// it stays.
inline void SkipDeadlockDetectionInRelease() {
#ifdef NDEBUG
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
#endif
}

}  // namespace phi::service
