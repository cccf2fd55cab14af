// Streams an answer from phi-serve: with a deadline, with cancellation by Ctrl-C, and with retries
// that gRPC makes itself.
//
//   example_generate ADDRESS PROMPT [SECONDS]
#include <grpcpp/grpcpp.h>
#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>

#include "phi/v1/generation.grpc.pb.h"

namespace {

// Tried again before the first token: what a router or a replica answers that goes away. Several
// addresses behind one name are used in turn, and only those that are ready. CANCELLED is what
// gRPC's server says to a call that meets its very end; a caller's own cancellation is never tried
// again.
constexpr char kServiceConfig[] = R"({
  "loadBalancingConfig": [{"round_robin": {}}],
  "healthCheckConfig": {"serviceName": "readiness"},
  "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
  "methodConfig": [{
    "name": [{"service": "phi.v1.TextGeneration"}],
    "retryPolicy": {"maxAttempts": 4, "initialBackoff": "0.1s", "maxBackoff": "2s",
                    "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"]}
  }]
})";

std::shared_ptr<grpc::Channel> Connect(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetServiceConfigJSON(kServiceConfig);
  // A connection that died without a word is noticed.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 60'000);
  // Without TLS, as on a laptop; otherwise grpc::SslCredentials.
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

// While it lives, Ctrl-C cancels the call: a thread waits for the signal, because a signal handler
// may not call gRPC. SIGINT must have been blocked before any other thread began.
class CancelOnInterrupt {
 public:
  CancelOnInterrupt(grpc::ClientContext& context, const sigset_t& interrupt)
      : thread_([this, &context, interrupt] {
          int signal = 0;
          sigwait(&interrupt, &signal);
          if (!over_) context.TryCancel();
        }) {}
  ~CancelOnInterrupt() {
    over_ = true;
    pthread_kill(thread_.native_handle(), SIGINT);
    thread_.join();
  }
  CancelOnInterrupt(const CancelOnInterrupt&) = delete;
  CancelOnInterrupt& operator=(const CancelOnInterrupt&) = delete;

 private:
  std::atomic<bool> over_{false};
  std::thread thread_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3 && argc != 4) {
    std::fprintf(stderr, "usage: example_generate ADDRESS PROMPT [SECONDS]\n");
    return 64;
  }
  sigset_t interrupt;
  sigemptyset(&interrupt);
  sigaddset(&interrupt, SIGINT);
  pthread_sigmask(SIG_BLOCK, &interrupt, nullptr);
  const auto stub = phi::v1::TextGeneration::NewStub(Connect(argv[1]));

  phi::v1::GenerateRequest request;
  request.set_text(argv[2]);
  request.mutable_parameters()->set_max_new_tokens(128);
  request.mutable_parameters()->add_stop_conditions(phi::v1::STOP_CONDITION_TOP_LEVEL);

  grpc::ClientContext context;
  // The service stops a little before it, so that the text so far arrives.
  const std::chrono::duration<double> allowed(argc == 4 ? std::atof(argv[3]) : 30.0);
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::duration_cast<std::chrono::microseconds>(allowed));
  const CancelOnInterrupt cancel(context, interrupt);

  const auto reader = stub->GenerateStream(&context, request);
  phi::v1::GenerateStreamResponse message;
  phi::v1::Usage usage;
  while (reader->Read(&message)) {
    std::fputs(message.text().c_str(), stdout);
    std::fflush(stdout);
    if (message.has_summary()) usage = message.summary().usage();
  }
  const grpc::Status status = reader->Finish();
  if (!status.ok()) {
    std::fprintf(stderr, "\nerror %d: %s\n", status.error_code(), status.error_message().c_str());
    return 1;
  }
  std::fprintf(
      stderr, "\n%u prompt tokens, %u new ones\n", usage.prompt_tokens(), usage.generated_tokens());
  return 0;
}
