#include "service/worker/worker_flags.h"

#include <cstdio>

#include "absl/strings/str_format.h"
#include "service/api/flags.h"
#include "service/worker/group/group_page.h"

namespace phi::service {
namespace {

// Two idle plans must fit it, or an idle group would look stalled.
constexpr absl::Duration kLeastStallLimit = absl::Seconds(1);

// What is wrong; empty when nothing is.
std::string CheckOptions(const WorkerOptions& options) {
  if (options.tensor_parallel < 1 || options.tensor_parallel > kMaxRanks) {
    return absl::StrFormat("--tensor_parallel takes 1 to %d", kMaxRanks);
  }
  if (options.threads < 0 || options.threads > 1024) return "--threads takes 0 to 1024";
  if (options.max_sequences < 1 || options.max_sequences > 4096)
    return "--max_sequences takes 1 to 4096";
  if (options.max_step_tokens < options.max_sequences || options.max_step_tokens > 65536) {
    return "--max_step_tokens takes max_sequences to 65536: each running request decodes one in "
           "every step";
  }
  if (options.max_queued_requests < 1 || options.max_queued_requests > 65536) {
    return "--max_queued_requests takes 1 to 65536";
  }
  // Sums of several of them have to fit in 64 bits of nanoseconds.
  constexpr absl::Duration kLongest = absl::Hours(24);
  if (options.stall_limit < kLeastStallLimit || options.stall_limit > kLongest)
    return "--stall_limit takes 1s to 24h";
  if (options.drain_timeout < absl::ZeroDuration() || options.drain_timeout > kLongest)
    return "--drain_timeout takes 0s to 24h";
  if (options.max_restarts < 0) return "--max_restarts takes 0 or more";
  return std::string(CheckServerTlsFlags(options.tls).message());
}

}  // namespace

std::optional<ExitCode> ParseWorkerFlags(int argc,
                                         const char* const* argv,
                                         WorkerOptions* options) {
  FlagParser flags(Program::kWorker,
                   "phi-worker",
                   "One replica of phi-serve: a supervisor and its rank processes.");
  flags.Bind("listen", &options->listen);
  flags.Bind("metrics_listen", &options->metrics_listen);
  flags.Bind("model", &options->model);
  flags.Bind("tensor_parallel", &options->tensor_parallel);
  flags.Bind("device", &options->device, {"auto", "cpu", "cuda"});
  flags.Bind("dtype", &options->dtype, {"auto", "float32", "bfloat16", "float16"});
  flags.Bind("isa", &options->isa);
  flags.Bind("threads", &options->threads);
  flags.Bind("max_sequences", &options->max_sequences);
  flags.Bind("max_step_tokens", &options->max_step_tokens);
  flags.Bind("kv_cache_bytes", &options->kv_cache_bytes);
  flags.Bind("max_queued_requests", &options->max_queued_requests);
  flags.Bind("max_queued_tokens", &options->max_queued_tokens);
  flags.Bind("prefix_cache", &options->prefix_cache);
  flags.Bind("batch_invariant", &options->batch_invariant);
  flags.Bind("verify_weights", &options->verify_weights);
  flags.Bind("tls_cert", &options->tls.cert);
  flags.Bind("tls_key", &options->tls.key);
  flags.Bind("tls_client_ca", &options->tls.peer_ca);
  flags.Bind("stall_limit", &options->stall_limit);
  flags.Bind("max_restarts", &options->max_restarts);
  flags.Bind("drain_timeout", &options->drain_timeout);
  flags.Bind("log_format", &options->log_format, {"text", "json"});
  flags.Bind("log_level", &options->log_level, {"debug", "info", "warning", "error"});
  if (const auto exit_code = flags.Parse(argc, argv)) return exit_code;
  if (const std::string wrong = CheckOptions(*options); !wrong.empty()) {
    std::fprintf(stderr, "phi-worker: %s (see phi-worker --help)\n", wrong.c_str());
    return ExitCode::kUsage;
  }
  return std::nullopt;
}

}  // namespace phi::service
