#include "service/router/router_server.h"

#include <grpc/grpc.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/impl/server_builder_option.h>
#include <malloc.h>

#include <thread>
#include <utility>

#include "absl/synchronization/notification.h"
#include "kernels/base/status_macros.h"
#include "service/access/access_control.h"
#include "service/access/periodic_thread.h"
#include "service/access/port_limits.h"
#include "service/access/reflection_guard.h"
#include "service/access/self_probe.h"
#include "service/access/tls_credentials.h"
#include "service/access/tls_monitor.h"
#include "service/api/error.h"
#include "service/api/grpc_deadline.h"
#include "service/router/router_service.h"
#include "service/router/unknown_methods.h"

namespace phi::service {
namespace {

constexpr absl::Duration kFileInterval = absl::Seconds(2);

// Linking gRPC's reflection library switches it on for every server of the process; this takes it
// out again.
class NoReflectionOption final : public grpc::ServerBuilderOption {
 public:
  void UpdateArguments(grpc::ChannelArguments* /*arguments*/) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    const std::string name = grpc::reflection::ProtoServerReflectionPlugin().name();
    std::erase_if(*plugins, [&](const auto& plugin) { return plugin->name() == name; });
  }
};

// What a flood of calls took and gave back stays with glibc otherwise, hundreds of megabytes of it.
void ReturnFreeMemory() {
  constexpr size_t kWorthTheWalk = size_t{32} << 20;
  if (mallinfo2().fordblks > kWorthTheWalk) malloc_trim(0);
}

class RouterServerImpl final : public RouterServer {
 public:
  RouterServerImpl(const RouterServerOptions& options, ServedModel model, MetricPage* metrics)
      : model_(std::move(model)),
        metrics_(*metrics),
        unknown_methods_(*metrics),
        calls_(*metrics, options.limits.slow_reader_timeout),
        work_(std::make_unique<WorkPool>(options.tokenizer_threads, options.max_queued_prompts)) {
    const auto limit = [&](RouterLimitLabel kind, double value) {
      metrics->Get(MetricId::kRouterLimit, {kind}).Set(value);
    };
    limit(RouterLimitLabel::kInflightRequests, options.limits.max_inflight_requests);
    limit(RouterLimitLabel::kTokenizerQueue, static_cast<double>(options.max_queued_prompts));
    limit(RouterLimitLabel::kMessageBytes, static_cast<double>(kMaxMessageBytes));
  }

  ~RouterServerImpl() override {
    self_probe_.reset();
    std::unique_ptr<grpc::Server> server;
    {
      const absl::MutexLock lock(&health_mutex_);
      server = std::move(server_);  // what the replicas still say of readiness reaches nobody
    }
    if (server != nullptr) server->Shutdown(ToGrpcDeadline(SteadyNow()));
    server.reset();
    // Ended calls may have left a task or a replica's stream behind, and those use what is declared
    // below.
    work_.reset();
    replicas_.reset();
  }

  absl::Status Listen(const RouterServerOptions& options) {
    PHI_RETURN_IF_ERROR(CheckTlsFiles(options.tls, "--tls_client_ca"));
    const TlsFiles to_replicas = {
        .cert = options.tls.cert, .key = options.tls.key, .peer_ca = options.replica_tls_ca};
    PHI_RETURN_IF_ERROR(CheckTlsFiles(to_replicas, "--replica_tls_ca"));
    PHI_ASSIGN_OR_RETURN(access_, AccessControl::Load(options.token_file));
    replicas_ = ReplicaPool::Start({.replicas = options.replicas,
                                    .fingerprint = model_.fingerprint,
                                    .credentials = MakeChannelCredentials(to_replicas),
                                    .metrics = &metrics_,
                                    .on_ready_change = [this](bool ready) { SetReady(ready); }});
    context_.emplace(RouterContext{.model = model_,
                                   .limits = options.limits,
                                   .metrics = metrics_,
                                   .access = *access_,
                                   .calls = calls_,
                                   .work = *work_,
                                   .replicas = *replicas_});
    service_ = std::make_unique<RouterService>(*context_);
    grpc::EnableDefaultHealthCheckService(true);
    grpc::ServerBuilder builder;
    LimitPort(PublicPortLimits(options.limits.max_time_limit), builder);
    if (!options.reflection) builder.SetOption(std::make_unique<NoReflectionOption>());
    const auto credentials = MakeServerCredentials(options.tls);
    if (!options.token_file.empty())
      credentials->SetAuthMetadataProcessor(MakeReflectionGuard(access_.get()));
    builder.AddListeningPort(options.listen, credentials, &port_);
    builder.RegisterService(service_.get());
    builder.RegisterCallbackGenericService(&unknown_methods_);
    std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
    if (server == nullptr || port_ == 0) {
      return absl::UnavailableError("--listen: cannot bind " + options.listen);
    }
    WatchFiles(options);
    self_probe_.emplace(
        SelfProbe::Options{.listen = options.listen, .port = port_, .on_stuck = EndStuckProcess});
    const absl::MutexLock lock(&health_mutex_);
    server_ = std::move(server);
    server_->GetHealthCheckService()->SetServingStatus("liveness", true);
    PublishHealth();
    return absl::OkStatus();
  }

  int port() const override { return port_; }

  bool ready() const override {
    const absl::MutexLock lock(&health_mutex_);
    return replicas_ready_ && !draining_;
  }

  void Drain(absl::Duration timeout) override {
    calls_.BeginDrain();
    {
      const absl::MutexLock lock(&health_mutex_);
      draining_ = true;
      PublishHealth();
    }
    self_probe_.reset();
    // Tells every connection at once to be made anew elsewhere: a caller who kept this one would
    // be refused until the end. Waits for the calls under way.
    constexpr absl::Duration kLastWords = absl::Seconds(1);
    absl::Notification has_ended;
    std::jthread shutdown([&] {
      server_->Shutdown(ToGrpcDeadline(After(SteadyNow(), timeout + kLastWords)));
      has_ended.Notify();
    });
    if (!calls_.AwaitIdle(timeout)) {
      calls_.AbortAll(
          MakeRetryError(ErrorReason::kDrainTimeout, "this server had to end", absl::Seconds(1)));
      static_cast<void>(calls_.AwaitIdle(kLastWords));
    }
    // Watchers of its health would keep it until the deadline; some may have come meanwhile.
    do {
      grpc_server_cancel_all_calls(server_->c_server());
    } while (!has_ended.WaitForNotificationWithTimeout(absl::Milliseconds(10)));
  }

 private:
  void WatchFiles(const RouterServerOptions& options) {
    if (options.tls.cert.empty()) return;
    tls_monitor_.emplace(options.tls,
                         metrics_.Get(MetricId::kTlsCertificateExpiryTimestampSeconds));
    tls_monitor_->Look();
    file_watch_.emplace(kFileInterval, [this] {
      tls_monitor_->Look();
      access_->Reload();
    });
  }

  void SetReady(bool ready) {
    const absl::MutexLock lock(&health_mutex_);
    replicas_ready_ = ready;
    PublishHealth();
  }

  void PublishHealth() ABSL_EXCLUSIVE_LOCKS_REQUIRED(health_mutex_) {
    if (server_ == nullptr) return;
    const bool serving = replicas_ready_ && !draining_;
    server_->GetHealthCheckService()->SetServingStatus("", serving);
    server_->GetHealthCheckService()->SetServingStatus("readiness", serving);
  }

  // In the order in which each needs the ones before it.
  const ServedModel model_;
  MetricPage& metrics_;
  UnknownMethods unknown_methods_;
  mutable absl::Mutex health_mutex_;
  bool replicas_ready_ ABSL_GUARDED_BY(health_mutex_) = false;
  bool draining_ ABSL_GUARDED_BY(health_mutex_) = false;
  std::unique_ptr<AccessControl> access_;
  std::optional<TlsMonitor> tls_monitor_;
  std::optional<PeriodicThread> file_watch_;
  ActiveCalls calls_;
  std::unique_ptr<WorkPool> work_;
  std::unique_ptr<ReplicaPool> replicas_;
  std::optional<RouterContext> context_;
  std::unique_ptr<RouterService> service_;
  std::unique_ptr<grpc::Server> server_;  // set once, under health_mutex_
  int port_ = 0;
  std::optional<SelfProbe> self_probe_;
  PeriodicThread memory_returner_{absl::Seconds(5), ReturnFreeMemory};
};

}  // namespace

absl::StatusOr<std::unique_ptr<RouterServer>> RouterServer::Start(
    const RouterServerOptions& options, ServedModel model, MetricPage* metrics) {
  auto server = std::make_unique<RouterServerImpl>(options, std::move(model), metrics);
  if (absl::Status status = server->Listen(options); !status.ok()) return status;
  return server;
}

}  // namespace phi::service
