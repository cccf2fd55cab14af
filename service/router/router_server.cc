#include "service/router/router_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/impl/server_builder_option.h>

#include <algorithm>
#include <utility>

#include "service/api/error.h"
#include "service/api/grpc_deadline.h"
#include "service/router/router_service.h"

namespace phi::service {
namespace {

constexpr int kMaxMetadataBytes = 64 << 10;
constexpr int kMaxStreamsPerConnection = 128;
constexpr int kHandshakeTimeoutMs = 10'000;
constexpr int kKeepaliveTimeMs = 60'000;
constexpr int kKeepaliveTimeoutMs = 20'000;
constexpr int kMinPingIntervalMs = 10'000;
constexpr int kMaxConnectionAgeMs = 30 * 60 * 1000;  // gRPC itself adds a jitter of 10%

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

// What gRPC leaves open by default, closed; see docs/api.md and the measurements that its limits
// come from.
void Harden(grpc::ServerBuilder& builder, absl::Duration longest_call) {
  // A compressed message may be a thousand times its size, and is unpacked before any limit is
  // looked at.
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
  builder.SetMaxReceiveMessageSize(static_cast<int>(kMaxMessageBytes));
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreamsPerConnection);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveTimeMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kMinPingIntervalMs);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS, kMaxConnectionAgeMs);
  const absl::Duration grace = std::min(longest_call + absl::Seconds(5), absl::Hours(24));
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS,
                             static_cast<int>(absl::ToInt64Milliseconds(grace)));
  // Two programs on one port would share its callers at random.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
}

class RouterServerImpl final : public RouterServer {
 public:
  RouterServerImpl(const RouterServerOptions& options, ServedModel model, MetricPage* metrics)
      : model_(std::move(model)),
        metrics_(*metrics),
        calls_(
            metrics->Get(MetricId::kRouterInflightRequests),
            std::clamp(
                options.limits.slow_reader_timeout / 4, absl::Milliseconds(10), absl::Seconds(1))),
        work_(std::make_unique<WorkPool>(options.tokenizer_threads, options.max_queued_prompts)) {
    const auto limit = [&](RouterLimitLabel kind, double value) {
      metrics->Get(MetricId::kRouterLimit, {kind}).Set(value);
    };
    limit(RouterLimitLabel::kInflightRequests, options.limits.max_inflight_requests);
    limit(RouterLimitLabel::kTokenizerQueue, static_cast<double>(options.max_queued_prompts));
    limit(RouterLimitLabel::kMessageBytes, static_cast<double>(kMaxMessageBytes));
  }

  ~RouterServerImpl() override {
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
    replicas_ = ReplicaPool::Start({.replicas = options.replicas,
                                    .fingerprint = model_.fingerprint,
                                    .metrics = &metrics_,
                                    .on_ready_change = [this](bool ready) { SetReady(ready); }});
    context_.emplace(RouterContext{.model = model_,
                                   .limits = options.limits,
                                   .metrics = metrics_,
                                   .calls = calls_,
                                   .work = *work_,
                                   .replicas = *replicas_});
    service_ = std::make_unique<RouterService>(*context_);
    grpc::EnableDefaultHealthCheckService(true);
    grpc::ServerBuilder builder;
    Harden(builder, options.limits.max_time_limit);
    if (!options.reflection) builder.SetOption(std::make_unique<NoReflectionOption>());
    builder.AddListeningPort(options.listen, grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(service_.get());
    std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
    if (server == nullptr || port_ == 0) {
      return absl::UnavailableError("--listen: cannot bind " + options.listen);
    }
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
    if (!calls_.AwaitIdle(timeout)) {
      calls_.AbortAll(
          MakeRetryError(ErrorReason::kDrainTimeout, "this server had to end", absl::Seconds(1)));
    }
    // What was just ended still has to reach its caller.
    server_->Shutdown(ToGrpcDeadline(SteadyNow() + std::chrono::seconds(1)));
  }

 private:
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
  mutable absl::Mutex health_mutex_;
  bool replicas_ready_ ABSL_GUARDED_BY(health_mutex_) = false;
  bool draining_ ABSL_GUARDED_BY(health_mutex_) = false;
  ActiveCalls calls_;
  std::unique_ptr<WorkPool> work_;
  std::unique_ptr<ReplicaPool> replicas_;
  std::optional<RouterContext> context_;
  std::unique_ptr<RouterService> service_;
  std::unique_ptr<grpc::Server> server_;  // set once, under health_mutex_
  int port_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<RouterServer>> RouterServer::Start(
    const RouterServerOptions& options, ServedModel model, MetricPage* metrics) {
  auto server = std::make_unique<RouterServerImpl>(options, std::move(model), metrics);
  if (absl::Status status = server->Listen(options); !status.ok()) return status;
  return server;
}

}  // namespace phi::service
