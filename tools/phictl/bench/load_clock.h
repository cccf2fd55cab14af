#pragma once

#include <chrono>

#include "absl/time/time.h"

namespace phi::phictl {

// The time of a load, by a clock that nobody sets: latencies are of one source with the schedule,
// and neither jumps with the wall clock. Only differences of such times mean anything.
inline absl::Time LoadNow() {
  return absl::UnixEpoch() + absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
}

}  // namespace phi::phictl
