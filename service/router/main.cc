#include <google/protobuf/stubs/logging.h>
#include <grpc/support/log.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/statusor.h"
#include "service/access/loopback.h"
#include "service/access/openssl_cleanup.h"
#include "service/access/port_limits.h"
#include "service/api/deadlock_detection.h"
#include "service/router/router_options.h"
#include "service/router/router_server.h"
#include "service/telemetry/logging.h"
#include "service/telemetry/metrics_server.h"

namespace phi::service {
namespace {

int Fail(ExitCode code, const absl::Status& status) {
  std::fprintf(stderr, "phi-router: %s\n", std::string(status.message()).c_str());
  return static_cast<int>(code);
}

// gRPC's own lines are for whoever debugs it; what matters of them comes back as a status.
void LogGrpcLine(gpr_log_func_args* args) {
  LogDebug("grpc", {{"text", std::string_view(args->message)}});
}

// The first signal drains, a second one ends at once.
void ServeUntilSignalled(RouterServer& server,
                         const sigset_t& signals,
                         absl::Duration drain_timeout) {
  int number = 0;
  (void)sigwait(&signals, &number);
  LogInfo("draining", {{"timeout_s", absl::ToDoubleSeconds(drain_timeout)}});
  std::jthread([signals] {
    int second = 0;
    (void)sigwait(&signals, &second);
    _exit(static_cast<int>(ExitCode::kOk));
  }).detach();
  server.Drain(drain_timeout);
  LogInfo("ended");
}

int Run(const RouterOptions& options) {
  RaiseFileLimit();
  auto metrics = MetricPage::Create(1);
  if (!metrics.ok()) return Fail(ExitCode::kInternal, metrics.status());
  (*metrics)->ShowCounters({MetricSource::kRouter, MetricSource::kAll});
  const absl::Status logging =
      StartLogging({.program = "phi-router",
                    .format = options.log_format,
                    .level = options.log_level,
                    .dropped = (*metrics)->Get(MetricId::kLogDroppedTotal)});
  if (!logging.ok()) return Fail(ExitCode::kUsage, logging);
  gpr_set_log_function(LogGrpcLine);
  auto model = LoadServedModel(options.model, options.model_name);
  if (!model.ok()) return Fail(ExitCode::kModelOrData, model.status());
  (*metrics)->SetInfo(MetricId::kBuildInfo,
                      {"phi-router", PHI_VERSION, __VERSION__, PHI_BUILD_TYPE});
  const std::string model_name = model->name;
  // What the replicas compute with is theirs to say.
  (*metrics)->SetInfo(MetricId::kModelInfo, {model->name, model->fingerprint, "", "", "", ""});
  auto server = RouterServer::Start(options.server, *std::move(model), metrics->get());
  if (!server.ok()) {
    const bool file = absl::IsInvalidArgument(server.status());
    return Fail(file ? ExitCode::kModelOrData : ExitCode::kCannotBind, server.status());
  }
  auto metrics_server = MetricsServer::Start(
      {.listen = options.metrics_listen,
       .livez = [] { return HealthAnswer{.ok = true, .text = "serving"}; },
       .readyz =
           [&server] {
             return (*server)->ready()
                        ? HealthAnswer{.ok = true, .text = "ready"}
                        : HealthAnswer{.ok = false, .text = "no replica is ready, or draining"};
           }},
      metrics->get());
  if (!metrics_server.ok()) return Fail(ExitCode::kCannotBind, metrics_server.status());
  if (options.server.tls.cert.empty() && !IsLoopback(std::string_view(options.server.listen))) {
    LogWarning("listening beyond loopback WITHOUT TLS: prompts and answers travel in the clear",
               {{"listen", options.server.listen}});
  }
  LogInfo("serving",
          {{"model", model_name},
           {"port", (*server)->port()},
           {"metrics_port", (*metrics_server)->port()}});
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  ServeUntilSignalled(**server, signals, options.drain_timeout);
  return static_cast<int>(ExitCode::kOk);
}

}  // namespace
}  // namespace phi::service

int main(int argc, char** argv) {
  phi::service::SkipDeadlockDetectionInRelease();
  phi::service::SkipOpenSslCleanup();
  // Before any thread starts, so that all of them leave these signals to sigwait.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  // protobuf writes to stderr about every text that is not UTF-8; the call's own log line says it.
  google::protobuf::SetLogHandler(nullptr);
  auto options = phi::service::ParseRouterOptions(argc, argv);
  if (const auto* exit_code = std::get_if<phi::service::ExitCode>(&options))
    return static_cast<int>(*exit_code);
  return phi::service::Run(std::get<phi::service::RouterOptions>(options));
}
