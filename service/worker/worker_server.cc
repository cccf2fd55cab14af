#include "service/worker/worker_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "kernels/backend.h"
#include "phi/worker/v1/worker.grpc.pb.h"
#include "service/access/periodic_thread.h"
#include "service/access/port_limits.h"
#include "service/access/self_probe.h"
#include "service/access/tls_credentials.h"
#include "service/access/tls_monitor.h"
#include "service/api/grpc_deadline.h"
#include "service/worker/status_board.h"
#include "service/worker/token_stream_call.h"

namespace phi::service {
namespace {

namespace proto = phi::worker::v1;

constexpr absl::Duration kFileInterval = absl::Seconds(2);

class WorkerService final : public proto::Worker::CallbackService {
 public:
  WorkerService(const WorkerServerOptions& options, StepLoop* loop)
      : options_(options), loop_(loop), board_([this] { return ReadStatus(); }) {}

  grpc::ServerBidiReactor<proto::GenerateRequest, proto::GenerateResponse>* Generate(
      grpc::CallbackServerContext* context) override {
    return TokenStreamCall::Start(context, options_.limits, loop_);
  }
  grpc::ServerWriteReactor<proto::ReplicaStatus>* WatchStatus(
      grpc::CallbackServerContext*, const proto::WatchStatusRequest*) override {
    return board_.AddWatcher();
  }

  void Stop() { board_.Stop(); }

 private:
  proto::ReplicaStatus ReadStatus() const {
    constexpr uint32_t kBlock = kernels::kKvBlockTokens;
    const ReplicaIdentity& identity = options_.identity;
    const SchedulerLimits& limits = options_.limits;
    proto::ReplicaStatus status;
    status.set_epoch(identity.epoch);
    status.set_fingerprint(identity.fingerprint);
    status.set_version(PHI_VERSION);
    status.set_world_size(identity.world_size);
    status.set_dtype(identity.dtype);
    status.set_isa(identity.isa);
    status.set_context_tokens(limits.context_tokens);
    status.set_max_sequences(limits.max_sequences);
    status.set_max_queued_requests(limits.max_queued_requests);
    status.set_max_queued_tokens(limits.max_queued_tokens);
    status.set_kv_tokens(limits.num_kv_blocks * kBlock);
    const EngineLoad load = loop_->load();
    status.set_queued_requests(QueuedRequests(limits, load.occupancy));
    status.set_queued_tokens(load.occupancy.waiting_tokens);
    status.set_draining(load.draining);
    const int64_t margin_ms =
        std::chrono::ceil<std::chrono::milliseconds>(load.deadline_margin).count();
    status.mutable_deadline_margin()->set_seconds(margin_ms / 1000);
    status.mutable_deadline_margin()->set_nanos(static_cast<int32_t>(margin_ms % 1000) * 1'000'000);
    return status;
  }

  const WorkerServerOptions options_;
  StepLoop* const loop_;
  StatusBoard board_;
};

class WorkerServerImpl final : public WorkerServer {
 public:
  WorkerServerImpl(const WorkerServerOptions& options, StepLoop* loop) : service_(options, loop) {}
  ~WorkerServerImpl() override { Shutdown(std::chrono::milliseconds(0)); }

  absl::Status Listen(const WorkerServerOptions& options) {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    grpc::ServerBuilder builder;
    builder.AddListeningPort(options.listen, MakeServerCredentials(options.tls), &port_);
    builder.RegisterService(&service_);
    LimitPort(WorkerPortLimits(options.limits.max_sequences + options.limits.max_queued_requests),
              builder);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr || port_ == 0) {
      return absl::UnavailableError(absl::StrFormat("cannot bind %s", options.listen));
    }
    WatchTls(options);
    self_probe_.emplace(
        SelfProbe::Options{.listen = options.listen, .port = port_, .on_stuck = EndStuckProcess});
    SetServing("liveness", true);
    SetServing("readiness", true);
    SetServing("", true);
    return absl::OkStatus();
  }

  int port() const override { return port_; }

  void SetNotReady() override {
    SetServing("readiness", false);
    SetServing("", false);
  }

  void Shutdown(std::chrono::milliseconds grace) override {
    if (server_ == nullptr) return;
    self_probe_.reset();
    SetNotReady();
    service_.Stop();
    server_->Shutdown(ToGrpcDeadline(SteadyNow() + grace));
    server_->Wait();
    server_.reset();
  }

 private:
  void WatchTls(const WorkerServerOptions& options) {
    if (options.tls.cert.empty()) return;
    tls_monitor_.emplace(options.tls,
                         options.metrics->Get(MetricId::kTlsCertificateExpiryTimestampSeconds));
    tls_monitor_->Look();
    tls_watch_.emplace(kFileInterval, [this] { tls_monitor_->Look(); });
  }
  void SetServing(const std::string& name, bool serving) {
    server_->GetHealthCheckService()->SetServingStatus(name, serving);
  }

  WorkerService service_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
  std::optional<TlsMonitor> tls_monitor_;
  std::optional<PeriodicThread> tls_watch_;
  std::optional<SelfProbe> self_probe_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<WorkerServer>> WorkerServer::Start(
    const WorkerServerOptions& options, StepLoop* loop) {
  auto server = std::make_unique<WorkerServerImpl>(options, loop);
  if (absl::Status status = server->Listen(options); !status.ok()) return status;
  return server;
}

}  // namespace phi::service
