#pragma once

#include <grpc/support/time.h>
#include <grpcpp/server_context.h>

#include "service/api/steady_clock.h"

// gRPC's deadlines, which its C++ API gives as times of the wall clock, as times of ours.
namespace phi::service {

// To be asked at the call's arrival, before the wall clock can be set; `now` is then.
SteadyTime DeadlineOf(const grpc::ServerContextBase& context, SteadyTime now);

// For set_deadline and Shutdown: what is left until `deadline`, counted by gRPC from when it is
// given it.
gpr_timespec ToGrpcDeadline(SteadyTime deadline);

}  // namespace phi::service
