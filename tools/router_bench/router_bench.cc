// What the router adds to a token's way, measured on a fake replica in this process: the same
// stream is read from the replica itself and through the router, in turns within one run, so that
// both see the same machine. Prints medians and differences.
//
//   first token    what parsing, tokenizing, admission, dispatch and one more hop add
//   further token  (last arrival - first arrival) / further tokens: what relaying adds to each,
//   with tokens paced as by a model
//
// Usage: router_bench [--model DIR] [--rounds N]
#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "phi/v1/generation.grpc.pb.h"
#include "service/router/router_server.h"
#include "service/telemetry/logging.h"
#include "tests/support/fake_replica.h"
#include "tools/run_main.h"

namespace phi {
namespace {

using Clock = std::chrono::steady_clock;
using tests::FakeReplica;

constexpr size_t kTokens = 32;
constexpr std::chrono::microseconds kPace{2000};

double Milliseconds(Clock::duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

double Median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

struct Samples {
  std::vector<double> first;
  std::vector<double> further;
};

template <typename Message, typename Reader>
void ReadStream(Reader& reader, Clock::time_point start, Samples& samples) {
  Message message;
  if (!reader.Read(&message)) return;
  const Clock::time_point first = Clock::now();
  Clock::time_point last = first;
  while (reader.Read(&message)) last = Clock::now();
  (void)reader.Finish();
  samples.first.push_back(Milliseconds(first - start));
  samples.further.push_back(Milliseconds(last - first) / static_cast<double>(kTokens - 1));
}

void AskReplica(phi::worker::v1::Worker::Stub& stub,
                const std::vector<uint32_t>& prompt,
                Samples& samples) {
  phi::worker::v1::GenerateRequest request;
  request.mutable_start()->mutable_prompt_token_ids()->Add(prompt.begin(), prompt.end());
  request.mutable_start()->mutable_parameters()->set_max_new_tokens(kTokens);
  const auto start = Clock::now();
  grpc::ClientContext context;
  const auto stream = stub.Generate(&context);
  stream->WriteLast(request, grpc::WriteOptions());
  ReadStream<phi::worker::v1::GenerateResponse>(*stream, start, samples);
}

void AskRouter(phi::v1::TextGeneration::Stub& stub, const std::string& prompt, Samples& samples) {
  phi::v1::GenerateRequest request;
  request.set_text(prompt);
  request.mutable_parameters()->set_max_new_tokens(kTokens);
  const auto start = Clock::now();
  grpc::ClientContext context;
  const auto reader = stub.GenerateStream(&context, request);
  ReadStream<phi::v1::GenerateStreamResponse>(*reader, start, samples);
}

void Print(const char* what,
           const std::vector<double>& direct,
           const std::vector<double>& routed,
           double target) {
  const double added = Median(routed) - Median(direct);
  std::printf(
      "%-14s direct %7.3f ms   by the router %7.3f ms   added %+7.3f ms   (target %.1f: %s)\n",
      what,
      Median(direct),
      Median(routed),
      added,
      target,
      added <= target ? "met" : "MISSED");
}

int Run(const std::string& model_dir, int rounds) {
  service::LogOptions log;
  log.program = "router_bench";
  log.level = "error";
  (void)service::StartLogging(log);
  auto model = service::LoadServedModel(model_dir, "");
  if (!model.ok()) {
    std::fprintf(stderr, "router_bench: %s\n", std::string(model.status().message()).c_str());
    return 1;
  }
  const std::string prompt =
      "def print_prime(n):\n    \"\"\"\n    Print all primes between 1 and n\n    \"\"\"\n";
  const auto ids = model->tokenizer.Encode(prompt, {.max_tokens = 1000, .cancelled = {}});
  FakeReplica::Script script;
  script.tokens.assign(kTokens, 1);
  script.delay_per_message = kPace;
  FakeReplica replica(FakeReplica::ReadyStatus(model->fingerprint),
                      [script](const auto&) { return script; });
  const auto metrics = service::MetricPage::Create(1);
  service::RouterServerOptions options{.listen = "127.0.0.1:0", .replicas = {}, .limits = {}};
  options.replicas.addresses = {replica.address()};
  const auto router = service::RouterServer::Start(options, *std::move(model), metrics->get());
  if (!router.ok()) return 1;
  while (!(*router)->ready()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  const auto connect = [](const std::string& address) {
    return grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
  };
  const auto direct_stub = phi::worker::v1::Worker::NewStub(connect(replica.address()));
  const auto router_stub =
      phi::v1::TextGeneration::NewStub(connect("127.0.0.1:" + std::to_string((*router)->port())));
  Samples warm_up, direct, routed;
  for (int i = -5; i < rounds; ++i) {
    AskReplica(*direct_stub, *ids, i < 0 ? warm_up : direct);
    AskRouter(*router_stub, prompt, i < 0 ? warm_up : routed);
  }
  std::printf(
      "%d rounds of %zu tokens, one every %.1f ms, prompt of %zu tokens, %u cores; medians\n",
      rounds,
      kTokens,
      Milliseconds(kPace),
      ids->size(),
      std::thread::hardware_concurrency());
  Print("first token", direct.first, routed.first, 0.5);
  Print("further token", direct.further, routed.further, 0.1);
  return 0;
}

int Main(int argc, char** argv) {
  CLI::App app("Measures what the router adds, on a fake replica.", "router_bench");
  std::string model_dir = PHI_SOURCE_DIR "/deploy/models/phi-nano";
  int rounds = 100;
  app.add_option("--model", model_dir, "Model directory (tokenizer and config)")
      ->capture_default_str();
  app.add_option("--rounds", rounds, "Streams of each kind")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  return Run(model_dir, rounds);
}

}  // namespace
}  // namespace phi

int main(int argc, char** argv) {
  return phi::tools::RunMain("router_bench", phi::Main, argc, argv);
}
