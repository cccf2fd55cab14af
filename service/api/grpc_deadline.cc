#include "service/api/grpc_deadline.h"

#include <algorithm>

namespace phi::service {

SteadyTime DeadlineOf(const grpc::ServerContextBase& context, SteadyTime now) {
  const auto deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return SteadyTime::max();
  return After(now, deadline - std::chrono::system_clock::now());
}

gpr_timespec ToGrpcDeadline(SteadyTime deadline) {
  if (deadline == SteadyTime::max()) return gpr_inf_future(GPR_CLOCK_MONOTONIC);
  const std::chrono::nanoseconds left = std::max(deadline - SteadyNow(), SteadyDuration::zero());
  return gpr_time_from_nanos(left.count(), GPR_TIMESPAN);
}

}  // namespace phi::service
