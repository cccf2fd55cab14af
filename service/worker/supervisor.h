#pragma once

#include "service/api/exit_code.h"
#include "service/worker/worker_flags.h"

namespace phi::service {

// phi-worker's parent process: it starts the ranks of one replica, watches them, and replaces the
// whole group when one of them ends or stands still (I5). It serves /metrics, /livez and /readyz
// all the while, computes nothing and has no gRPC. Returns when the replica was drained (SIGTERM,
// SIGINT), cannot start, or its restarts are spent.
ExitCode RunSupervisor(const WorkerOptions& options);

}  // namespace phi::service
