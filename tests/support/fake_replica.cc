#include "tests/support/fake_replica.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <thread>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "kernels/base/check.h"

namespace phi::tests {

using phi::worker::v1::GenerateRequest;
using phi::worker::v1::GenerateResponse;
using phi::worker::v1::ReplicaStatus;
using phi::worker::v1::StartGeneration;
using Stream = grpc::ServerReaderWriter<GenerateResponse, GenerateRequest>;

// The synchronous API: one thread a call is fine here, and scripts read from top to bottom.
class FakeReplica::Service final : public phi::worker::v1::Worker::Service {
 public:
  Service(ReplicaStatus status, ScriptFor script_for)
      : script_for_(std::move(script_for)), status_(std::move(status)) {}

  grpc::Status Generate(grpc::ServerContext* context, Stream* stream) override {
    GenerateRequest request;
    if (!stream->Read(&request)) return grpc::Status(grpc::StatusCode::CANCELLED, "no start");
    {
      const absl::MutexLock lock(&mutex_);
      requests_.push_back(request.start());
      last_deadline_ = context->deadline();
    }
    ++num_active_;
    const grpc::Status status = Play(*context, request.start(), *stream);
    --num_active_;
    if (context->IsCancelled()) ++num_cancelled_;
    return status;
  }

  grpc::Status WatchStatus(grpc::ServerContext* context,
                           const phi::worker::v1::WatchStatusRequest* /*request*/,
                           grpc::ServerWriter<ReplicaStatus>* writer) override {
    uint64_t sent = 0;
    absl::Time next_push = absl::InfinitePast();
    while (!context->IsCancelled()) {
      ReplicaStatus status;
      {
        const absl::MutexLock lock(&mutex_);
        const auto changed = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
          return version_ != sent || ending_;
        };
        // Short, because cancellation shows by looking only.
        const bool news =
            mutex_.AwaitWithTimeout(absl::Condition(&changed), absl::Milliseconds(20));
        if (ending_) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "gone");
        if (!news && absl::Now() < next_push) continue;
        next_push = absl::Now() + absl::Milliseconds(300);
        sent = version_;
        status = status_;
      }
      if (!writer->Write(status)) break;
    }
    return grpc::Status::OK;
  }

  void SetStatus(const ReplicaStatus& status) {
    const absl::MutexLock lock(&mutex_);
    status_ = status;
    ++version_;
  }

  void End() {
    const absl::MutexLock lock(&mutex_);
    ending_ = true;
  }

  std::vector<StartGeneration> requests() const {
    const absl::MutexLock lock(&mutex_);
    return requests_;
  }
  std::chrono::system_clock::time_point last_deadline() const {
    const absl::MutexLock lock(&mutex_);
    return last_deadline_;
  }
  int num_cancelled() const { return num_cancelled_; }
  int num_active() const { return num_active_; }

 private:
  // False when the call or the replica ended meanwhile.
  bool Wait(const grpc::ServerContext& context, std::chrono::microseconds duration) {
    const auto end = std::chrono::steady_clock::now() + duration;
    while (true) {
      {
        const absl::MutexLock lock(&mutex_);
        if (ending_) return false;
      }
      if (context.IsCancelled()) return false;
      const auto left = end - std::chrono::steady_clock::now();
      if (left <= std::chrono::nanoseconds(0)) return true;
      std::this_thread::sleep_for(
          std::min<std::chrono::nanoseconds>(left, std::chrono::milliseconds(5)));
    }
  }

  grpc::Status Play(const grpc::ServerContext& context,
                    const StartGeneration& request,
                    Stream& writer) {
    const Script script = script_for_(request);
    const grpc::Status gone(grpc::StatusCode::UNAVAILABLE, "gone");
    if (!Wait(context, script.delay_before_first)) return gone;
    const size_t num_tokens =
        std::min<size_t>(script.tokens.size(), request.parameters().max_new_tokens());
    const bool ends_well = script.status.ok() && !script.hang_at_end;
    for (size_t begin = 0; begin < num_tokens; begin += script.tokens_per_message) {
      const size_t end = std::min(num_tokens, begin + script.tokens_per_message);
      GenerateResponse response;
      for (size_t i = begin; i < end; ++i) AddToken(request, script.tokens[i], response);
      if (end == num_tokens && ends_well) AddEnd(script, response);
      if (!writer.Write(response) || !Wait(context, script.delay_per_message)) return gone;
    }
    if (script.hang_at_end) Wait(context, std::chrono::hours(1));
    return script.status;
  }

  // Log-probabilities that a test can compute: minus the id over a thousand.
  static void AddToken(const StartGeneration& request, uint32_t id, GenerateResponse& response) {
    auto& token = *response.add_tokens();
    token.set_token_id(id);
    if (!request.parameters().has_logprobs()) return;
    token.set_logprob(-static_cast<float>(id) / 1000);
    for (uint32_t rank = 0; rank < request.parameters().logprobs(); ++rank) {
      auto& candidate = *token.add_top();
      candidate.set_token_id(rank);
      candidate.set_logprob(-static_cast<float>(rank) / 1000);
    }
  }

  static void AddEnd(const Script& script, GenerateResponse& response) {
    response.set_finish_reason(script.finish);
    response.mutable_summary()->mutable_queue()->set_nanos(1'000'000);
    response.mutable_summary()->mutable_prefill()->set_nanos(2'000'000);
    response.mutable_summary()->mutable_decode()->set_nanos(3'000'000);
  }

  const ScriptFor script_for_;
  mutable absl::Mutex mutex_;
  ReplicaStatus status_ ABSL_GUARDED_BY(mutex_);
  uint64_t version_ ABSL_GUARDED_BY(mutex_) = 1;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<StartGeneration> requests_ ABSL_GUARDED_BY(mutex_);
  std::chrono::system_clock::time_point last_deadline_ ABSL_GUARDED_BY(mutex_);
  std::atomic<int> num_cancelled_ = 0;
  std::atomic<int> num_active_ = 0;
};

ReplicaStatus FakeReplica::ReadyStatus(const std::string& fingerprint) {
  ReplicaStatus status;
  status.set_epoch(1);
  status.set_fingerprint(fingerprint);
  status.set_version("fake");
  status.set_world_size(1);
  status.set_dtype("float32");
  status.set_isa("fake");
  status.set_context_tokens(1 << 20);
  status.set_max_sequences(64);
  status.set_max_queued_requests(64);
  status.set_max_queued_tokens(1 << 20);
  status.set_kv_tokens(1 << 20);
  status.set_free_kv_tokens(1 << 20);
  return status;
}

FakeReplica::FakeReplica(ReplicaStatus status, ScriptFor script_for, int port)
    : service_(std::make_unique<Service>(std::move(status), std::move(script_for))) {
  grpc::ServerBuilder builder;
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddListeningPort(
      "127.0.0.1:" + std::to_string(port), grpc::InsecureServerCredentials(), &port_);
  builder.RegisterService(service_.get());
  server_ = builder.BuildAndStart();
  PHI_CHECK(server_ != nullptr && port_ != 0, "cannot bind port %d", port);
}

FakeReplica::~FakeReplica() {
  service_->End();
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
}

int FakeReplica::port() const { return port_; }
std::string FakeReplica::address() const { return "127.0.0.1:" + std::to_string(port_); }
void FakeReplica::SetStatus(const ReplicaStatus& status) { service_->SetStatus(status); }
std::vector<StartGeneration> FakeReplica::requests() const { return service_->requests(); }
int FakeReplica::num_cancelled() const { return service_->num_cancelled(); }
int FakeReplica::num_active() const { return service_->num_active(); }
std::chrono::system_clock::time_point FakeReplica::last_deadline() const {
  return service_->last_deadline();
}

}  // namespace phi::tests
