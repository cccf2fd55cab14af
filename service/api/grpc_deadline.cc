#include "service/api/grpc_deadline.h"

#include <algorithm>
#include <cstdint>

namespace phi::service {

// Not by deadline(): as a time of the wall clock, one that is centuries away overflows.
SteadyTime DeadlineOf(const grpc::ServerContextBase& context, SteadyTime now) {
  constexpr int64_t kYear = std::chrono::seconds(std::chrono::hours(24 * 365)).count();
  const gpr_timespec deadline = gpr_convert_clock_type(context.raw_deadline(), GPR_CLOCK_MONOTONIC);
  const gpr_timespec left = gpr_time_sub(deadline, gpr_now(GPR_CLOCK_MONOTONIC));
  return After(now,
               std::chrono::seconds(std::clamp(left.tv_sec, -kYear, kYear)) +
                   std::chrono::nanoseconds(left.tv_nsec));
}

gpr_timespec ToGrpcDeadline(SteadyTime deadline) {
  if (deadline == SteadyTime::max()) return gpr_inf_future(GPR_CLOCK_MONOTONIC);
  const std::chrono::nanoseconds left = std::max(deadline - SteadyNow(), SteadyDuration::zero());
  return gpr_time_from_nanos(left.count(), GPR_TIMESPAN);
}

}  // namespace phi::service
