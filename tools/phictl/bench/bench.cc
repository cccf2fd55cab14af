#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>

#include "absl/strings/str_format.h"
#include "kernels/base/status_macros.h"
#include "service/api/exit_code.h"
#include "tools/phictl/bench/load_clock.h"
#include "tools/phictl/bench/load_generator.h"
#include "tools/phictl/bench/plot.h"
#include "tools/phictl/bench/progress.h"
#include "tools/phictl/bench/report.h"
#include "tools/phictl/commands.h"

namespace phi::phictl {
namespace {

using service::ExitCode;

constexpr absl::Duration kConnectTimeout = absl::Seconds(10);

// A signal handler reaches nothing but a global.
std::atomic<bool> g_interrupted = false;
static_assert(std::atomic<bool>::is_always_lock_free);

struct BenchArgs {
  double rate = 0;
  std::string trace;
  uint32_t concurrency = 0;
  std::string arrivals = "poisson";
  std::string prompt = "128";
  std::string output = "64";
  uint32_t shared_prefix = 0;
  std::string duration;
  uint64_t num_requests = 0;
  std::string warm_up = "0s";
  uint64_t seed = 1;
  uint32_t max_inflight = 1024;
  double cancel_share = 0;
  std::string slo;
  std::string json;
  std::string plot;
};

// What the flags come to.
struct Load {
  WorkloadOptions workload;
  absl::Duration duration = absl::InfiniteDuration();  // without the warm-up
  absl::Duration warm_up;
  Slo slo;
  LoadWords words;
};

absl::StatusOr<absl::Duration> ReadDuration(const std::string& flag, const std::string& text) {
  absl::Duration duration;
  if (absl::ParseDuration(text, &duration) && duration >= absl::ZeroDuration()) return duration;
  return absl::InvalidArgumentError(flag + " takes a time such as 30s, not '" + text + "'");
}

absl::StatusOr<std::vector<TraceEntry>> ReadTrace(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::InvalidArgumentError("cannot read " + path);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  auto trace = ParseTrace(text);
  if (trace.ok()) return trace;
  return absl::InvalidArgumentError(path + ": " + std::string(trace.status().message()));
}

std::string InWords(const BenchArgs& args) {
  std::string words = args.concurrency > 0 ? absl::StrFormat("%d at a time", args.concurrency)
                      : args.trace.empty()
                          ? absl::StrFormat("%s, %g requests/s", args.arrivals, args.rate)
                          : "trace " + args.trace;
  if (args.trace.empty()) {
    words += absl::StrFormat(", prompt %s, output %s", args.prompt, args.output);
  }
  if (args.shared_prefix > 0) words += absl::StrFormat(", shared prefix %d", args.shared_prefix);
  if (args.cancel_share > 0) words += absl::StrFormat(", %g cancelled", args.cancel_share);
  if (!args.duration.empty()) words += ", for " + args.duration;
  if (args.num_requests > 0) words += absl::StrFormat(", %d requests", args.num_requests);
  if (args.warm_up != "0s") words += " after " + args.warm_up;
  return words + absl::StrFormat(", seed %d", args.seed);
}

absl::StatusOr<Load> ReadArgs(const BenchArgs& args) {
  Load load;
  const int kinds = (args.rate > 0) + !args.trace.empty() + (args.concurrency > 0);
  if (kinds != 1) {
    return absl::InvalidArgumentError("one of --rate, --trace and --concurrency is needed");
  }
  if (args.trace.empty() && args.duration.empty() && args.num_requests == 0) {
    return absl::InvalidArgumentError("--duration or --requests is needed");
  }
  load.workload.rate = args.rate;
  load.workload.arrivals = args.arrivals == "poisson" ? Arrivals::kPoisson : Arrivals::kUniform;
  if (!args.trace.empty()) {
    PHI_ASSIGN_OR_RETURN(load.workload.trace, ReadTrace(args.trace));
  }
  PHI_ASSIGN_OR_RETURN(load.workload.prompt, LengthDistribution::Parse(args.prompt));
  PHI_ASSIGN_OR_RETURN(load.workload.output, LengthDistribution::Parse(args.output));
  load.workload.shared_prefix = args.shared_prefix;
  load.workload.cancel_share = args.cancel_share;
  load.workload.seed = args.seed;
  if (args.num_requests > 0) load.workload.num_requests = args.num_requests;
  PHI_ASSIGN_OR_RETURN(load.warm_up, ReadDuration("--warm-up", args.warm_up));
  if (!args.duration.empty()) {
    PHI_ASSIGN_OR_RETURN(load.duration, ReadDuration("--duration", args.duration));
  }
  load.workload.duration = load.warm_up + load.duration;
  if (!args.slo.empty()) {
    PHI_ASSIGN_OR_RETURN(load.slo, Slo::Parse(args.slo));
  }
  load.words = {.load = InWords(args), .slo = args.slo};
  return load;
}

// A file, or standard output for "-". False, said on stderr, when it cannot be written.
bool WriteOut(const std::string& path, const std::string& text) {
  if (path == "-") return std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (!file) std::fprintf(stderr, "phictl: cannot write %s\n", path.c_str());
  return !file.fail();
}

int WriteReports(const BenchArgs& args, const LoadWords& words, const LoadRecorder& recorder) {
  const LoadResult result = recorder.result();
  const Timeline timeline = recorder.timeline();
  bool written = true;
  if (args.json != "-") std::printf("%s", TextReport(words, result).c_str());
  if (!args.json.empty()) written &= WriteOut(args.json, JsonReport(words, result, timeline));
  if (!args.plot.empty()) written &= WriteOut(args.plot, SvgPlot(words, result, timeline));
  if (!written) return static_cast<int>(ExitCode::kUsage);
  return result.num_answered > 0 ? 0 : static_cast<int>(ExitCode::kCannotBind);
}

int RunBench(const BenchArgs& args, const Connection& connection) {
  auto load = ReadArgs(args);
  if (!load.ok()) {
    std::fprintf(stderr, "phictl: %s\n", std::string(load.status().message()).c_str());
    return static_cast<int>(ExitCode::kUsage);
  }
  phi::v1::GetModelInfoResponse info;
  const grpc::Status status = phi::v1::TextGeneration::NewStub(Connect(connection))
                                  ->GetModelInfo(NewContext(connection).get(), {}, &info);
  if (!status.ok()) return ReportError(status, connection);
  load->workload.context_tokens = info.context_tokens();
  load->workload.vocabulary_tokens = info.vocabulary_tokens();
  Workload workload(load->workload);
  const absl::Time start = LoadNow() + absl::Milliseconds(50);
  LoadRecorder recorder(
      start, start + load->warm_up, start + load->warm_up + load->duration, load->slo);
  LoadGenerator generator(connection,
                          {.concurrency = args.concurrency,
                           .max_inflight = args.max_inflight,
                           .start = start,
                           .end = start + load->workload.duration},
                          workload,
                          recorder);
  if (!generator.ConnectAll(kConnectTimeout)) {
    return ReportError({grpc::StatusCode::UNAVAILABLE, "not all connections were made"},
                       connection);
  }
  const absl::Duration length =
      args.trace.empty() ? load->workload.duration : load->workload.trace.back().offset;
  Progress progress(stderr, isatty(STDERR_FILENO) == 1, start, length, load->workload.num_requests);
  std::signal(SIGINT, [](int) { g_interrupted = true; });
  generator.Run(g_interrupted, [&] { progress.Tick(LoadNow(), recorder.live()); });
  std::signal(SIGINT, SIG_DFL);
  progress.End();
  return WriteReports(args, load->words, recorder);
}

constexpr const char* kFooter =
    "Latencies count from the time a request was due, not from when it was sent, and with --rate "
    "or\n"
    "--trace a request is sent when it is due whatever is still unanswered: a server that stalls "
    "shows in\n"
    "the percentiles (no coordinated omission). --concurrency measures a server's capacity "
    "instead: each\n"
    "answer makes room for the next request, and latency counts from sending.\n\n"
    "Every request asks for exactly --output tokens (the end-of-text token does not end it), of "
    "random\n"
    "token ids as the prompt; both are cut to the model's context. \"inter-token\" is the time "
    "between two\n"
    "messages of a stream; an SLO's itl is a request's mean time from token to token.\n\n"
    "A trace has a line a request, SECONDS,PROMPT_TOKENS,OUTPUT_TOKENS or\n"
    "{\"offset\": SECONDS, \"prompt_tokens\": N, \"output_tokens\": N}, in order of time.\n\n"
    "Ctrl-C ends the load and reports what there is. Exits with 0 when any request was "
    "answered.\n\n"
    "Examples:\n"
    "  phictl bench --concurrency 8 --requests 100\n"
    "  phictl bench --rate 4 --duration 60s --warm-up 5s --prompt lognormal:220,0.8 --output "
    "lognormal:200,0.7 \\\n"
    "      --slo ttft=2s,itl=200ms --plot load.svg\n"
    "  phictl bench --trace monday.csv --timeout 30s --json -";

void AddLoadFlags(CLI::App& command, BenchArgs& args) {
  command.add_option("--rate", args.rate, "Requests a second (open loop)")
      ->check(CLI::Range(1e-3, 1e5))
      ->option_text("PER_SECOND");
  command.add_option("--trace", args.trace, "Requests as this file says (open loop)")
      ->option_text("FILE");
  command.add_option("--concurrency", args.concurrency, "So many requests at a time (closed loop)")
      ->check(CLI::Range(1, 100'000))
      ->option_text("COUNT");
  command.add_option("--arrivals", args.arrivals, "How --rate's requests are spread")
      ->check(CLI::IsMember({"poisson", "uniform"}))
      ->option_text("poisson|uniform=" + args.arrivals);
  const char* lengths = "N, uniform:LEAST-GREATEST or lognormal:MEAN,SIGMA";
  command.add_option("--prompt", args.prompt, std::string("Tokens of a prompt: ") + lengths)
      ->option_text("TOKENS=" + args.prompt);
  command.add_option("--output", args.output, "Tokens of an answer, written likewise")
      ->option_text("TOKENS=" + args.output);
  command
      .add_option("--shared-prefix",
                  args.shared_prefix,
                  "So many tokens more in front of every prompt, the same in all")
      ->check(CLI::Range(0, 1 << 20))
      ->option_text("TOKENS");
  command.add_option("--seed", args.seed, "The same seed gives the same load")
      ->option_text("N=" + std::to_string(args.seed));
  command
      .add_option("--cancel-share",
                  args.cancel_share,
                  "Share of the requests that are cancelled on the way")
      ->check(CLI::Range(0.0, 1.0))
      ->option_text("SHARE");
}

void AddLengthFlags(CLI::App& command, BenchArgs& args) {
  command.add_option("--duration", args.duration, "How long to measure, such as 30s")
      ->option_text("TIME");
  command
      .add_option("--requests", args.num_requests, "How many requests to send, warm-up included")
      ->option_text("COUNT");
  command.add_option("--warm-up", args.warm_up, "How long to load before measuring")
      ->option_text("TIME");
  command
      .add_option("--max-inflight",
                  args.max_inflight,
                  "With more unanswered in the open loop, requests are not sent and reported as "
                  "\"client saturated\"")
      ->check(CLI::Range(1, 100'000))
      ->option_text("COUNT=" + std::to_string(args.max_inflight));
}

}  // namespace

Command AddBench(CLI::App& app) {
  auto args = std::make_shared<BenchArgs>();  // shared by the app's flags and the command
  CLI::App* command = app.add_subcommand(
      "bench", "Loads a server and reports latencies, rates, failures and goodput");
  AddLoadFlags(*command, *args);
  AddLengthFlags(*command, *args);
  command
      ->add_option(
          "--slo", args->slo, "Goodput counts requests within it: ttft=500ms,itl=50ms,total=10s")
      ->option_text("LIMITS");
  command
      ->add_option("--json", args->json, "Write a JSON report to this file; - is standard output")
      ->option_text("FILE");
  command->add_option("--plot", args->plot, "Write an SVG picture to this file")
      ->option_text("FILE");
  command->footer(kFooter);
  return [args](const Connection& connection) { return RunBench(*args, connection); };
}

}  // namespace phi::phictl
