#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "service/access/tls_files.h"
#include "service/router/replicas/replica_list.h"
#include "service/router/router_context.h"
#include "service/router/served_model.h"
#include "service/telemetry/metric_page.h"

namespace phi::service {

struct RouterServerOptions {
  std::string listen;  // "127.0.0.1:50051"; port 0 picks one
  ReplicaList replicas;
  CallLimits limits;
  TlsFiles tls = {};                // of the public port
  std::string replica_tls_ca = {};  // with it, replicas are dialled by TLS
  std::string token_file = {};      // needs tls
  bool reflection = true;
  size_t tokenizer_threads = 2;
  size_t max_queued_prompts = 256;
};

// The public endpoint: TextGeneration, health ("", "liveness", "readiness") and reflection on one
// port.
class RouterServer {
 public:
  // `metrics` outlives the server. UNAVAILABLE naming the address when it cannot be bound,
  // INVALID_ARGUMENT naming a file of certificates or tokens that cannot be used. Ready replicas
  // come later: readiness and ready() follow them.
  static absl::StatusOr<std::unique_ptr<RouterServer>> Start(const RouterServerOptions& options,
                                                             ServedModel model,
                                                             MetricPage* metrics);
  // Ends what is still under way at once.
  virtual ~RouterServer() = default;

  virtual int port() const = 0;
  // Whether it takes calls: a replica is ready and it is not draining.
  virtual bool ready() const = 0;

  // Readiness off, new calls are refused with DRAINING, those under way get `timeout` to end and
  // then DRAIN_TIMEOUT. Blocks. After it nothing is served any more.
  virtual void Drain(absl::Duration timeout) = 0;
};

}  // namespace phi::service
