#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace phi::phictl {

// What a caller expects of one request; a limit that is not set is infinite. Goodput counts the
// requests that were answered whole and within all limits (as MLPerf's server scenario and AIPerf
// define it).
struct Slo {
  absl::Duration first_token = absl::InfiniteDuration();
  // Mean time from one token to the next of the request.
  absl::Duration inter_token = absl::InfiniteDuration();
  absl::Duration total = absl::InfiniteDuration();

  // "ttft=500ms,itl=50ms,total=10s", each at most once, in any order.
  static absl::StatusOr<Slo> Parse(std::string_view text);
};

}  // namespace phi::phictl
