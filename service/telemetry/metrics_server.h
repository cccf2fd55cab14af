#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "service/telemetry/metric_page.h"

namespace phi::service {

// What /livez or /readyz answers: 200 or 503 with one line of text.
struct HealthAnswer {
  bool ok = false;
  std::string text;
};

struct MetricsServerOptions {
  std::string listen;  // "127.0.0.1:9090"; port 0 picks one
  // Called on server threads; they must not block.
  std::function<HealthAnswer()> livez;
  std::function<HealthAnswer()> readyz;
};

// Serves /metrics, /livez and /readyz over HTTP (civetweb, the server that prometheus-cpp itself
// uses) with a few threads and bounded time-outs, so that a slow scraper hurts nobody.
class MetricsServer {
 public:
  // `page` outlives the server. UNAVAILABLE naming the address when it cannot be bound.
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Start(const MetricsServerOptions& options,
                                                              const MetricPage* page);
  virtual ~MetricsServer() = default;
  virtual int port() const = 0;
};

}  // namespace phi::service
