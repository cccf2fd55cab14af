// Replicas without a model, for measuring the router: each port answers phi.worker.v1.Worker with a
// token a stream every `--pace`, from the first one at once to the last. The same process answers
// phi.v1.TextGeneration likewise, so that one client can be timed against it directly and through a
// router. tools/load/router_streams.py drives it.
//
// As a batch of a real replica would, sixteen streams get their token together; the groups are
// spread over the pace.
#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "phi/v1/generation.grpc.pb.h"
#include "phi/worker/v1/worker.grpc.pb.h"
#include "service/router/served_model.h"
#include "tests/support/fake_replica.h"
#include "tools/run_main.h"

namespace phi {
namespace {

constexpr size_t kGroupSize = 16;
constexpr uint32_t kMany = 1 << 20;
constexpr uint32_t kNumLetters = 90;  // lower ids are ASCII in every vocabulary of this kind
constexpr absl::Duration kPushStatusEvery = absl::Milliseconds(250);

class Paced {
 public:
  virtual ~Paced() = default;
  // Once in each pace, by the pacer's thread, which holds its mutex.
  virtual void OnTick() = 0;
};

// Ticks all streams once in each pace, a group of them at a time.
class Pacer {
 public:
  explicit Pacer(absl::Duration pace)
      : pace_(pace), thread_([this](const std::stop_token& stop) { Run(stop); }) {}

  void Add(Paced* stream) {
    const absl::MutexLock lock(&mutex_);
    streams_.push_back(stream);
  }
  // After this, `stream` is ticked no more.
  void Remove(Paced* stream) {
    const absl::MutexLock lock(&mutex_);
    const auto found = std::find(streams_.begin(), streams_.end(), stream);
    if (found == streams_.end()) return;
    *found = streams_.back();
    streams_.pop_back();
  }

 private:
  void Run(const std::stop_token& stop) {
    absl::Time next = absl::Now();
    for (size_t group = 0; !stop.stop_requested(); ++group) {
      size_t num_groups = 1;
      {
        const absl::MutexLock lock(&mutex_);
        num_groups = std::max<size_t>(1, (streams_.size() + kGroupSize - 1) / kGroupSize);
        group %= num_groups;
        const size_t end = std::min(streams_.size(), (group + 1) * kGroupSize);
        for (size_t i = group * kGroupSize; i < end; ++i) streams_[i]->OnTick();
      }
      next += pace_ / static_cast<double>(num_groups);
      absl::SleepFor(next - absl::Now());
    }
  }

  const absl::Duration pace_;
  absl::Mutex mutex_;
  std::vector<Paced*> streams_ ABSL_GUARDED_BY(mutex_);
  std::jthread thread_;
};

void AddToken(uint32_t id, phi::worker::v1::GenerateResponse& response) {
  response.add_tokens()->set_token_id(id);
}
void AddToken(uint32_t id, phi::v1::GenerateStreamResponse& response) {
  response.add_token_ids(id);
  response.mutable_text()->append("word");
}
void AddEnd(uint32_t /*num_tokens*/, phi::worker::v1::GenerateResponse& response) {
  response.set_finish_reason(phi::v1::FINISH_REASON_MAX_NEW_TOKENS);
}
void AddEnd(uint32_t num_tokens, phi::v1::GenerateStreamResponse& response) {
  response.mutable_finish()->set_reason(phi::v1::FINISH_REASON_MAX_NEW_TOKENS);
  response.mutable_finish()->set_generated_tokens(num_tokens);
}

// The tokens of one call; what falls due while a write is under way joins the next one.
template <typename Reactor, typename Response>
class TokenStream : public Reactor, public Paced {
 public:
  explicit TokenStream(Pacer& pacer) : pacer_(pacer) {}

  void OnTick() override {
    const absl::MutexLock lock(&mutex_);
    if (sent_ + owed_ < num_tokens_) ++owed_;
    WriteWhatIsOwed();
  }
  void OnWriteDone(bool /*ok*/) override {
    const absl::MutexLock lock(&mutex_);
    writing_ = false;
    WriteWhatIsOwed();
  }
  void OnCancel() override {
    const absl::MutexLock lock(&mutex_);
    if (!std::exchange(finished_, true)) this->Finish(grpc::Status::CANCELLED);
  }
  void OnDone() override {
    pacer_.Remove(this);
    delete this;
  }

 protected:
  void Begin(uint32_t num_tokens) {
    {
      const absl::MutexLock lock(&mutex_);
      num_tokens_ = num_tokens;
    }
    OnTick();
    pacer_.Add(this);
  }

 private:
  void WriteWhatIsOwed() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (writing_ || finished_ || owed_ == 0) return;
    response_.Clear();
    for (; owed_ > 0; --owed_) AddToken(sent_++ % kNumLetters, response_);
    writing_ = true;
    if (sent_ < num_tokens_) {
      this->StartWrite(&response_);
      return;
    }
    finished_ = true;
    AddEnd(sent_, response_);
    this->StartWriteAndFinish(&response_, grpc::WriteOptions(), grpc::Status::OK);
  }

  Pacer& pacer_;
  absl::Mutex mutex_;
  uint32_t num_tokens_ ABSL_GUARDED_BY(mutex_) = 0;
  uint32_t sent_ ABSL_GUARDED_BY(mutex_) = 0;
  uint32_t owed_ ABSL_GUARDED_BY(mutex_) = 0;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  Response response_;
};

class WorkerStream final
    : public TokenStream<grpc::ServerBidiReactor<phi::worker::v1::GenerateRequest,
                                                 phi::worker::v1::GenerateResponse>,
                         phi::worker::v1::GenerateResponse> {
 public:
  explicit WorkerStream(Pacer& pacer) : TokenStream(pacer) { StartRead(&request_); }
  void OnReadDone(bool ok) override {
    if (ok) Begin(request_.start().parameters().max_new_tokens());
  }

 private:
  phi::worker::v1::GenerateRequest request_;
};

class PublicStream final
    : public TokenStream<grpc::ServerWriteReactor<phi::v1::GenerateStreamResponse>,
                         phi::v1::GenerateStreamResponse> {
 public:
  PublicStream(Pacer& pacer, uint32_t num_tokens) : TokenStream(pacer) { Begin(num_tokens); }
};

class StatusStream final : public grpc::ServerWriteReactor<phi::worker::v1::ReplicaStatus>,
                           public Paced {
 public:
  StatusStream(Pacer& pacer, phi::worker::v1::ReplicaStatus status)
      : pacer_(pacer), status_(std::move(status)) {
    StartWrite(&status_);
    pacer_.Add(this);
  }
  void OnTick() override {
    const absl::MutexLock lock(&mutex_);
    if (writing_ || finished_ || absl::Now() < next_push_) return;
    next_push_ = absl::Now() + kPushStatusEvery;
    writing_ = true;
    StartWrite(&status_);
  }
  void OnWriteDone(bool /*ok*/) override {
    const absl::MutexLock lock(&mutex_);
    writing_ = false;
  }
  void OnCancel() override {
    const absl::MutexLock lock(&mutex_);
    if (!std::exchange(finished_, true)) Finish(grpc::Status::CANCELLED);
  }
  void OnDone() override {
    pacer_.Remove(this);
    delete this;
  }

 private:
  Pacer& pacer_;
  const phi::worker::v1::ReplicaStatus status_;
  absl::Mutex mutex_;
  bool writing_ ABSL_GUARDED_BY(mutex_) = true;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time next_push_ ABSL_GUARDED_BY(mutex_);
};

class WorkerService final : public phi::worker::v1::Worker::CallbackService {
 public:
  WorkerService(Pacer& pacer, phi::worker::v1::ReplicaStatus status)
      : pacer_(pacer), status_(std::move(status)) {}

  grpc::ServerBidiReactor<phi::worker::v1::GenerateRequest, phi::worker::v1::GenerateResponse>*
  Generate(grpc::CallbackServerContext* /*context*/) override {
    return new WorkerStream(pacer_);
  }
  grpc::ServerWriteReactor<phi::worker::v1::ReplicaStatus>* WatchStatus(
      grpc::CallbackServerContext* /*context*/,
      const phi::worker::v1::WatchStatusRequest* /*request*/) override {
    return new StatusStream(pacer_, status_);
  }

 private:
  Pacer& pacer_;
  const phi::worker::v1::ReplicaStatus status_;
};

class PublicService final : public phi::v1::TextGeneration::CallbackService {
 public:
  explicit PublicService(Pacer& pacer) : pacer_(pacer) {}

  grpc::ServerWriteReactor<phi::v1::GenerateStreamResponse>* GenerateStream(
      grpc::CallbackServerContext* /*context*/, const phi::v1::GenerateRequest* request) override {
    return new PublicStream(pacer_, request->parameters().max_new_tokens());
  }
  grpc::ServerUnaryReactor* GetModelInfo(grpc::CallbackServerContext* context,
                                         const phi::v1::GetModelInfoRequest* /*request*/,
                                         phi::v1::GetModelInfoResponse* response) override {
    response->set_context_tokens(kMany);
    response->set_vocabulary_tokens(256);
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

 private:
  Pacer& pacer_;
};

int Run(const std::string& model_dir, int num_ports, int first_port, absl::Duration pace) {
  auto model = service::LoadServedModel(model_dir, "");
  if (!model.ok()) {
    std::fprintf(stderr, "paced_replica: %s\n", std::string(model.status().message()).c_str());
    return 1;
  }
  phi::worker::v1::ReplicaStatus status = tests::FakeReplica::ReadyStatus(model->fingerprint);
  status.set_max_sequences(kMany);
  status.set_max_queued_requests(kMany);
  // A signal is taken by the wait below and by no other thread.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  Pacer pacer(pace);
  WorkerService worker(pacer, status);
  PublicService text_generation(pacer);
  grpc::ServerBuilder builder;
  builder.RegisterService(&worker);
  builder.RegisterService(&text_generation);
  for (int i = 0; i < num_ports; ++i) {
    builder.AddListeningPort("127.0.0.1:" + std::to_string(first_port + i),
                             grpc::InsecureServerCredentials());
  }
  const auto server = builder.BuildAndStart();
  if (server == nullptr) return 1;
  int received = 0;
  sigwait(&signals, &received);
  server->Shutdown(std::chrono::system_clock::now());
  server->Wait();
  return 0;
}

int Main(int argc, char** argv) {
  CLI::App app("Replicas without a model that answer at a pace.", "paced_replica");
  std::string model_dir = PHI_SOURCE_DIR "/deploy/models/phi-nano";
  int num_ports = 1;
  int first_port = 0;
  int pace_us = 50'000;
  app.add_option("--model", model_dir, "Model directory that the router serves")
      ->capture_default_str();
  app.add_option("--ports", num_ports, "How many replicas")->check(CLI::Range(1, 1000));
  app.add_option("--first-port", first_port, "Port of the first; the others follow")
      ->required()
      ->check(CLI::Range(1024, 65'000));
  app.add_option("--pace-us", pace_us, "Microseconds from token to token")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  return Run(model_dir, num_ports, first_port, absl::Microseconds(pace_us));
}

}  // namespace
}  // namespace phi

int main(int argc, char** argv) {
  return phi::tools::RunMain("paced_replica", phi::Main, argc, argv);
}
