#pragma once

#include "absl/status/statusor.h"
#include "phi/worker/v1/worker.pb.h"
#include "service/worker/engine_request.h"
#include "service/worker/scheduler.h"

namespace phi::service {

// A call's start as the engine takes it, with every parameter checked again and defaults filled in.
// Its `id` and `call_deadline` stay unset. INVALID_ARGUMENT with the field's path;
// UNSUPPORTED_FIELD for the router's own fields.
absl::StatusOr<EngineRequest> ToEngineRequest(const phi::worker::v1::StartGeneration& message,
                                              const SchedulerLimits& limits,
                                              SteadyTime now);

}  // namespace phi::service
