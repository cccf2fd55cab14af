#include "tests/support/fake_replica.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <map>
#include <span>
#include <thread>
#include <unordered_map>
#include <utility>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "kernels/base/check.h"
#include "service/api/steady_clock.h"

namespace phi::tests {

using phi::worker::v1::GenerateRequest;
using phi::worker::v1::GenerateResponse;
using phi::worker::v1::ReplicaStatus;
using phi::worker::v1::StartGeneration;
using service::SteadyCondition;
using service::SteadyNow;
using service::SteadyTime;

namespace {

// Log-probabilities that a test can compute: minus the id over a thousand.
void AddToken(const StartGeneration& request, uint32_t id, GenerateResponse& response) {
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

void AddEnd(const FakeReplica::Script& script, GenerateResponse& response) {
  response.set_finish_reason(script.finish);
  response.mutable_summary()->mutable_queue()->set_nanos(1'000'000);
  response.mutable_summary()->mutable_prefill()->set_nanos(2'000'000);
  response.mutable_summary()->mutable_decode()->set_nanos(3'000'000);
}

}  // namespace

// One Generate call: plays its script, a message at each Step. Owners: itself until gRPC is done
// with it, and the timer's queue.
class FakeReplica::Call final : public grpc::ServerBidiReactor<GenerateRequest, GenerateResponse>,
                                public std::enable_shared_from_this<Call> {
 public:
  static Call* Start(Service* service) {
    const auto call = std::make_shared<Call>(service);
    call->self_ = call;
    call->StartRead(&call->request_);
    return call.get();
  }
  explicit Call(Service* service) : service_(service) {}

  // What comes next: a message, or the end.
  void Step() ABSL_LOCKS_EXCLUDED(mutex_);
  // The replica dies.
  void Break() ABSL_LOCKS_EXCLUDED(mutex_) {
    const absl::MutexLock lock(&mutex_);
    End(grpc::Status(grpc::StatusCode::UNAVAILABLE, "gone"));
  }

 private:
  struct Sample {
    std::span<const uint32_t> left;
    bool ended = false;
  };

  void OnReadDone(bool ok) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnWriteDone(bool ok) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnCancel() override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnDone() override;
  void TakeStart() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool NextMessage() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool AllEnded() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return std::all_of(samples_.begin(), samples_.end(), [](const Sample& s) { return s.ended; });
  }
  void End(const grpc::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!std::exchange(finished_, true)) Finish(status);
  }

  Service* const service_;
  std::shared_ptr<Call> self_;
  GenerateRequest request_;
  GenerateResponse response_;
  absl::Mutex mutex_;
  StartGeneration start_ ABSL_GUARDED_BY(mutex_);
  Script script_ ABSL_GUARDED_BY(mutex_);
  std::vector<Sample> samples_ ABSL_GUARDED_BY(mutex_);
  size_t turn_ ABSL_GUARDED_BY(mutex_) = 0;
  bool started_ ABSL_GUARDED_BY(mutex_) = false;
  bool hanging_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

// Generate by reactors, for there may be thousands; WatchStatus is a thread for each router.
class FakeReplica::Service final : public phi::worker::v1::Worker::WithCallbackMethod_Generate<
                                       phi::worker::v1::Worker::Service> {
 public:
  Service(ReplicaStatus status, ScriptFor script_for)
      : script_for_(std::move(script_for)), status_(std::move(status)), timer_([this] { Run(); }) {}
  ~Service() override { End(); }

  grpc::ServerBidiReactor<GenerateRequest, GenerateResponse>* Generate(
      grpc::CallbackServerContext* context) override {
    {
      const absl::MutexLock lock(&mutex_);
      last_deadline_ = context->deadline();
    }
    return Call::Start(this);
  }

  grpc::Status WatchStatus(grpc::ServerContext* context,
                           const phi::worker::v1::WatchStatusRequest* /*request*/,
                           grpc::ServerWriter<ReplicaStatus>* writer) override {
    uint64_t sent = 0;
    SteadyTime next_push = SteadyTime::min();
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
        if (!news && SteadyNow() < next_push) continue;
        next_push = SteadyNow() + std::chrono::milliseconds(300);
        sent = version_;
        status = status_;
      }
      if (!writer->Write(status)) break;
    }
    return grpc::Status::OK;
  }

  // From `call`, whose start came; its script.
  Script OnStart(const std::shared_ptr<Call>& call, const StartGeneration& start) {
    {
      const absl::MutexLock lock(&mutex_);
      requests_.push_back(start);
      active_.emplace(call.get(), call);
    }
    Script script = script_for_(start);
    if (start.bounded_by_context() && script.finish == phi::v1::FINISH_REASON_MAX_NEW_TOKENS) {
      script.finish = phi::v1::FINISH_REASON_CONTEXT_LENGTH;
    }
    return script;
  }
  void OnSampleEnded() { ++num_samples_ended_; }
  void OnCancel() { ++num_cancelled_; }
  void OnDone(Call* call) {
    const absl::MutexLock lock(&mutex_);
    active_.erase(call);
  }
  void StepAfter(std::shared_ptr<Call> call, std::chrono::microseconds delay) {
    const absl::MutexLock lock(&mutex_);
    due_.emplace(SteadyNow() + delay, std::move(call));
    changed_.NotifyAll();
  }

  void SetStatus(const ReplicaStatus& status) {
    const absl::MutexLock lock(&mutex_);
    status_ = status;
    ++version_;
  }

  void End() {
    std::vector<std::shared_ptr<Call>> calls;
    {
      const absl::MutexLock lock(&mutex_);
      ending_ = true;
      changed_.NotifyAll();
      for (const auto& [unused, call] : active_) calls.push_back(call);
    }
    for (const auto& call : calls) call->Break();
    if (timer_.joinable()) timer_.join();
  }

  std::vector<StartGeneration> requests() const {
    const absl::MutexLock lock(&mutex_);
    return requests_;
  }
  std::chrono::system_clock::time_point last_deadline() const {
    const absl::MutexLock lock(&mutex_);
    return last_deadline_;
  }
  int num_samples_ended() const { return num_samples_ended_; }
  int num_cancelled() const { return num_cancelled_; }
  int num_active() const {
    const absl::MutexLock lock(&mutex_);
    return static_cast<int>(active_.size());
  }

 private:
  void Run() {
    while (true) {
      std::shared_ptr<Call> call;
      {
        const absl::MutexLock lock(&mutex_);
        const SteadyTime next =
            due_.empty() ? SteadyNow() + std::chrono::seconds(1) : due_.begin()->first;
        changed_.WaitUntil(mutex_, next, [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
          return ending_ || (!due_.empty() && due_.begin()->first < next);
        });
        if (ending_) return;
        if (due_.empty() || due_.begin()->first > SteadyNow()) continue;
        call = std::move(due_.begin()->second);
        due_.erase(due_.begin());
      }
      call->Step();
    }
  }

  const ScriptFor script_for_;
  mutable absl::Mutex mutex_;
  SteadyCondition changed_;
  ReplicaStatus status_ ABSL_GUARDED_BY(mutex_);
  uint64_t version_ ABSL_GUARDED_BY(mutex_) = 1;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<StartGeneration> requests_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<Call*, std::shared_ptr<Call>> active_ ABSL_GUARDED_BY(mutex_);
  std::multimap<SteadyTime, std::shared_ptr<Call>> due_ ABSL_GUARDED_BY(mutex_);
  std::chrono::system_clock::time_point last_deadline_ ABSL_GUARDED_BY(mutex_);
  std::atomic<int> num_samples_ended_ = 0;
  std::atomic<int> num_cancelled_ = 0;
  std::thread timer_;
};

void FakeReplica::Call::OnReadDone(bool ok) {
  const absl::MutexLock lock(&mutex_);
  if (finished_) return;
  if (!ok) {
    if (!started_) End(grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "no start"));
    return;
  }
  if (!started_) {
    TakeStart();
  } else if (request_.end_sample().index() < samples_.size()) {
    samples_[request_.end_sample().index()].ended = !script_.deaf;
    service_->OnSampleEnded();
    if (hanging_ && AllEnded()) End(script_.status);
  }
  StartRead(&request_);
}

void FakeReplica::Call::TakeStart() {
  started_ = true;
  start_ = request_.start();
  script_ = service_->OnStart(shared_from_this(), start_);
  samples_.resize(std::max(1U, start_.parameters().n()));
  for (size_t i = 0; i < samples_.size(); ++i) {
    const auto& tokens = i < script_.samples.size() ? script_.samples[i] : script_.tokens;
    samples_[i].left = std::span(tokens).first(
        std::min<size_t>(tokens.size(), start_.parameters().max_new_tokens()));
  }
  service_->StepAfter(shared_from_this(), script_.delay_before_first);
}

bool FakeReplica::Call::NextMessage() {
  const auto has_more = [](const Sample& sample) { return !sample.ended && !sample.left.empty(); };
  for (size_t i = 0; i < samples_.size(); ++i, turn_ = (turn_ + 1) % samples_.size()) {
    Sample& sample = samples_[turn_];
    if (!has_more(sample)) continue;
    response_.Clear();
    response_.set_index(static_cast<uint32_t>(turn_));
    const size_t count = std::min(sample.left.size(), script_.tokens_per_message);
    for (const uint32_t id : sample.left.first(count)) AddToken(start_, id, response_);
    sample.left = sample.left.subspan(count);
    if (sample.left.empty() && script_.status.ok() && !script_.hang_at_end)
      AddEnd(script_, response_);
    turn_ = (turn_ + 1) % samples_.size();
    return true;
  }
  return false;
}

void FakeReplica::Call::Step() {
  const absl::MutexLock lock(&mutex_);
  if (finished_) return;
  if (NextMessage()) {
    StartWrite(&response_);
  } else if (!script_.hang_at_end || AllEnded()) {
    End(script_.status);
  } else {
    hanging_ = true;
  }
}

void FakeReplica::Call::OnWriteDone(bool ok) {
  std::chrono::microseconds delay{};
  {
    const absl::MutexLock lock(&mutex_);
    if (finished_) return;
    if (!ok) return End(grpc::Status(grpc::StatusCode::CANCELLED, "nobody reads"));
    delay = script_.delay_per_message;
  }
  if (delay.count() == 0) return Step();
  service_->StepAfter(shared_from_this(), delay);
}

void FakeReplica::Call::OnCancel() {
  const absl::MutexLock lock(&mutex_);
  if (started_) service_->OnCancel();
  End(grpc::Status(grpc::StatusCode::CANCELLED, "cancelled"));
}

void FakeReplica::Call::OnDone() {
  const std::shared_ptr<Call> self = std::move(self_);
  service_->OnDone(this);
}

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
  return status;
}

FakeReplica::FakeReplica(ReplicaStatus status, ScriptFor script_for, int port)
    : service_(std::make_unique<Service>(std::move(status), std::move(script_for))) {
  const SteadyTime until = SteadyNow() + std::chrono::seconds(60);
  // Somebody else's connection may have taken the port of one that comes back.
  while (!Listen(port)) {
    PHI_CHECK(SteadyNow() < until, "cannot bind port %d", port);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

bool FakeReplica::Listen(int port) {
  grpc::ServerBuilder builder;
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddListeningPort(
      "127.0.0.1:" + std::to_string(port), grpc::InsecureServerCredentials(), &port_);
  builder.RegisterService(service_.get());
  server_ = builder.BuildAndStart();
  return server_ != nullptr && port_ != 0;
}

FakeReplica::~FakeReplica() {
  service_->End();
  server_->Shutdown(gpr_now(GPR_CLOCK_MONOTONIC));
  server_->Wait();
}

int FakeReplica::port() const { return port_; }
std::string FakeReplica::address() const { return "127.0.0.1:" + std::to_string(port_); }
void FakeReplica::SetStatus(const ReplicaStatus& status) { service_->SetStatus(status); }
std::vector<StartGeneration> FakeReplica::requests() const { return service_->requests(); }
int FakeReplica::num_samples_ended() const { return service_->num_samples_ended(); }
int FakeReplica::num_cancelled() const { return service_->num_cancelled(); }
int FakeReplica::num_active() const { return service_->num_active(); }
std::chrono::system_clock::time_point FakeReplica::last_deadline() const {
  return service_->last_deadline();
}

}  // namespace phi::tests
