#pragma once

#include <string_view>

#include "absl/status/status.h"

// Failpoints: named places where a test may have a fault happen that cannot be made from outside.
// In builds with the CMake option PHI_FAILPOINTS they are set by the environment variable of that
// name; in all others, the shipped ones among them, the macros are constants and no name is left
// in the program.
//
//   PHI_FAILPOINTS="rank1.before_step=error@3;rank.logits=nan@5-7"
//
// name=action, where the action is
//   sleep:MS   wait that long
//   error      INTERNAL, which the place returns
//   kill       SIGKILL to its own process
//   nan        the place makes a number NaN
// and @FIRST-LAST, @FIRST- or @ONLY counts the times that this process comes by, from 1 on; without
// it every time counts.
#ifdef PHI_WITH_FAILPOINTS
#define PHI_FAILPOINT(name) ::phi::HitFailpoint(name)
#define PHI_FAILPOINT_NAN(name) ::phi::FailpointMakesNan(name)

namespace phi {

// INVALID_ARGUMENT for what is no such list. Replaces the failpoints of the process, which are
// those of the environment at first, and counts anew. All functions: any thread.
absl::Status SetFailpoints(std::string_view list);

// Behind the macros.
absl::Status HitFailpoint(std::string_view name);
bool FailpointMakesNan(std::string_view name);

}  // namespace phi
#else
#define PHI_FAILPOINT(name) ::absl::OkStatus()
#define PHI_FAILPOINT_NAN(name) false
#endif
