#include "service/worker/worker_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <utility>

#include "absl/strings/str_format.h"
#include "kernels/backend.h"
#include "phi/worker/v1/worker.grpc.pb.h"
#include "service/api/generation_parameters.h"
#include "service/api/grpc_deadline.h"
#include "service/worker/status_board.h"
#include "service/worker/token_stream_call.h"

namespace phi::service {
namespace {

namespace proto = phi::worker::v1;

// Above max_sequences and the queue: status watchers, health watchers, and calls about to be
// refused.
constexpr uint32_t kSpareStreams = 64;

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
    status.set_free_kv_tokens((load.kv.free + load.kv.cached) * kBlock);
    status.set_running_requests(load.occupancy.running_requests);
    status.set_queued_requests(load.occupancy.waiting_requests);
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

void SetLimits(const SchedulerLimits& limits, grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(static_cast<int>(kMaxMessageBytes));
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, 64 << 10);
  builder.AddChannelArgument(
      GRPC_ARG_MAX_CONCURRENT_STREAMS,
      static_cast<int>(limits.max_sequences + limits.max_queued_requests + kSpareStreams));
  // Two workers on one port would share its connections without an error.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 20'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5'000);
}

class WorkerServerImpl final : public WorkerServer {
 public:
  WorkerServerImpl(const WorkerServerOptions& options, StepLoop* loop) : service_(options, loop) {}
  ~WorkerServerImpl() override { Shutdown(std::chrono::milliseconds(0)); }

  absl::Status Listen(const WorkerServerOptions& options) {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    grpc::ServerBuilder builder;
    builder.AddListeningPort(options.listen, grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(&service_);
    SetLimits(options.limits, builder);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr || port_ == 0) {
      return absl::UnavailableError(absl::StrFormat("cannot bind %s", options.listen));
    }
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
    SetNotReady();
    service_.Stop();
    server_->Shutdown(ToGrpcDeadline(SteadyNow() + grace));
    server_->Wait();
    server_.reset();
  }

 private:
  void SetServing(const std::string& name, bool serving) {
    server_->GetHealthCheckService()->SetServingStatus(name, serving);
  }

  WorkerService service_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<WorkerServer>> WorkerServer::Start(
    const WorkerServerOptions& options, StepLoop* loop) {
  auto server = std::make_unique<WorkerServerImpl>(options, loop);
  if (absl::Status status = server->Listen(options); !status.ok()) return status;
  return server;
}

}  // namespace phi::service
