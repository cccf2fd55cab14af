#pragma once

#include "absl/status/status.h"
#include "kernels/base/check.h"

namespace phi {

// Aborts unless the refusal has a message, and of one line whatever was read.
inline void CheckOneLine(const absl::Status& refusal) {
  PHI_CHECK(!refusal.message().empty(), "no message");
  PHI_CHECK(refusal.message().find_first_of("\r\n") == refusal.message().npos,
            "an error of several lines");
}

}  // namespace phi
