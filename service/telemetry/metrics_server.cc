#include "service/telemetry/metrics_server.h"

#include <civetweb.h>
#include <prometheus/text_serializer.h>

#include <array>
#include <atomic>
#include <chrono>
#include <iterator>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>

#include "absl/strings/str_format.h"
#include "service/telemetry/process_metrics.h"

namespace phi::service {
namespace {

constexpr int kOk = 200;
constexpr int kMethodNotAllowed = 405;
constexpr int kUnavailable = 503;

struct Answer {
  int status = kOk;
  std::string_view content_type = "text/plain; charset=utf-8";
  std::string body;
};

std::string_view StatusText(int status) {
  switch (status) {
    case kOk:
      return "OK";
    case kMethodNotAllowed:
      return "Method Not Allowed";
    default:
      return "Service Unavailable";
  }
}

void Send(mg_connection* connection, const Answer& answer, bool head_only) {
  const std::string head = absl::StrFormat(
      "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n",
      answer.status,
      StatusText(answer.status),
      answer.content_type,
      answer.body.size());
  // Both stop at the server's time-out when the scraper reads nothing.
  if (mg_write(connection, head.data(), head.size()) > 0 && !head_only) {
    mg_write(connection, answer.body.data(), answer.body.size());
  }
}

class CivetMetricsServer final : public MetricsServer {
 public:
  CivetMetricsServer(MetricsServerOptions options, const MetricPage* page)
      : options_(std::move(options)), page_(page) {}
  ~CivetMetricsServer() override {
    if (context_ != nullptr) Stop();
  }
  CivetMetricsServer(const CivetMetricsServer&) = delete;
  CivetMetricsServer& operator=(const CivetMetricsServer&) = delete;

  absl::Status Listen();
  int port() const override { return port_; }

  // Nothing for a path that is not served.
  std::optional<Answer> Respond(std::string_view method, std::string_view path) const;

 private:
  void Stop();
  Answer Metrics() const;

  MetricsServerOptions options_;
  const MetricPage* page_;
  mg_context* context_ = nullptr;
  int port_ = 0;
};

Answer CivetMetricsServer::Metrics() const {
  std::vector<prometheus::MetricFamily> families = page_->Collect();
  std::vector<prometheus::MetricFamily> process = CollectProcessMetrics();
  families.insert(families.end(),
                  std::make_move_iterator(process.begin()),
                  std::make_move_iterator(process.end()));
  return {.content_type = "text/plain; version=0.0.4; charset=utf-8",
          .body = prometheus::TextSerializer().Serialize(families)};
}

// civetweb looks at its stop flag between two waits of 2 s for a connection: one from us ends the
// wait, so that a program does not linger at its end.
void CivetMetricsServer::Stop() {
  std::atomic<bool> stopped = false;
  const std::jthread stopper([this, &stopped] {
    mg_stop(context_);
    stopped = true;
  });
  std::string host = options_.listen.substr(0, options_.listen.rfind(':'));
  if (host.starts_with('[')) host = host.substr(1, host.size() - 2);
  while (!stopped) {
    std::array<char, 64> error{};
    mg_connection* wake = mg_connect_client(host.c_str(), port_, 0, error.data(), error.size());
    if (wake != nullptr) mg_close_connection(wake);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

std::optional<Answer> CivetMetricsServer::Respond(std::string_view method,
                                                  std::string_view path) const {
  if (path != "/metrics" && path != "/livez" && path != "/readyz") return std::nullopt;
  if (method != "GET" && method != "HEAD") {
    return Answer{.status = kMethodNotAllowed, .body = "GET only\n"};
  }
  if (path == "/metrics") return Metrics();
  const HealthAnswer health = path == "/livez" ? options_.livez() : options_.readyz();
  return Answer{.status = health.ok ? kOk : kUnavailable, .body = health.text + "\n"};
}

// civetweb's begin_request: the status sent, or 0 to let it answer 404.
int OnRequest(mg_connection* connection) {
  const auto* server =
      static_cast<const CivetMetricsServer*>(mg_get_user_data(mg_get_context(connection)));
  const mg_request_info* request = mg_get_request_info(connection);
  const std::string_view method = request->request_method;
  const auto answer = server->Respond(method, request->local_uri);
  if (!answer) return 0;
  Send(connection, *answer, method == "HEAD");
  return answer->status;
}

absl::Status CivetMetricsServer::Listen() {
  // A scraper that stalls holds one of the threads for the time-out at most; more connections than
  // the queue are closed.
  const std::array<const char*, 15> settings = {"listening_ports",
                                                options_.listen.c_str(),
                                                "num_threads",
                                                "4",
                                                "connection_queue",
                                                "32",
                                                "request_timeout_ms",
                                                "3000",
                                                "max_request_size",
                                                "16384",
                                                "enable_keep_alive",
                                                "no",
                                                "enable_directory_listing",
                                                "no",
                                                nullptr};
  mg_callbacks callbacks = {};
  callbacks.log_message = [](const mg_connection*, const char*) { return 1; };  // not on our stderr
  callbacks.begin_request = OnRequest;
  mg_init_data init = {.callbacks = &callbacks,
                       .user_data = this,
                       .configuration_options = const_cast<const char**>(settings.data())};
  std::array<char, 256> text{};
  unsigned code = 0;
  mg_error_data error = {.code = &code, .text = text.data(), .text_buffer_size = text.size()};
  context_ = mg_start2(&init, &error);
  if (context_ == nullptr) {
    return absl::UnavailableError(
        absl::StrFormat("cannot serve metrics at %s: %s", options_.listen, text.data()));
  }
  mg_server_port port = {};
  if (mg_get_server_ports(context_, 1, &port) != 1) {
    return absl::InternalError("the metrics server does not tell its port");
  }
  port_ = port.port;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Start(
    const MetricsServerOptions& options, const MetricPage* page) {
  auto server = std::make_unique<CivetMetricsServer>(options, page);
  if (absl::Status status = server->Listen(); !status.ok()) return status;
  return server;
}

}  // namespace phi::service
