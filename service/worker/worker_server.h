#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "service/access/tls_files.h"
#include "service/telemetry/metric_page.h"
#include "service/worker/scheduler.h"
#include "service/worker/step_loop.h"

namespace phi::service {

// What a replica says of itself in every ReplicaStatus.
struct ReplicaIdentity {
  uint64_t epoch = 1;
  std::string fingerprint;
  uint32_t world_size = 1;
  std::string dtype;
  std::string isa;
};

struct WorkerServerOptions {
  std::string listen;  // "127.0.0.1:50052"; port 0 picks one
  TlsFiles tls = {};
  const MetricPage* metrics = nullptr;  // outlives the server; needed with TLS
  ReplicaIdentity identity;
  SchedulerLimits limits;
};

// The leader's gRPC server: phi.worker.v1.Worker, health (names "", "liveness", "readiness") and
// reflection. Its handlers only check and enqueue.
class WorkerServer {
 public:
  // Listens and is SERVING, on files that CheckTlsFiles has passed. `loop` outlives the server.
  // UNAVAILABLE naming the address when it cannot be bound.
  static absl::StatusOr<std::unique_ptr<WorkerServer>> Start(const WorkerServerOptions& options,
                                                             StepLoop* loop);
  virtual ~WorkerServer() = default;

  virtual int port() const = 0;
  // Readiness off; calls go on.
  virtual void SetNotReady() = 0;
  // Takes no more calls, ends status watchers, and gives what is left `grace` to reach its readers.
  virtual void Shutdown(std::chrono::milliseconds grace) = 0;
};

}  // namespace phi::service
