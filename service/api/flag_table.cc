#include <array>

#include "service/api/exit_code.h"
#include "service/api/flags.h"

namespace phi::service {
namespace {

constexpr auto kRouter = static_cast<uint8_t>(Program::kRouter);
constexpr auto kWorker = static_cast<uint8_t>(Program::kWorker);
constexpr uint8_t kBoth = kRouter | kWorker;

constexpr std::array kRows = {
    FlagRow{"listen",
            kRouter,
            "HOST:PORT",
            "127.0.0.1:50051",
            "Where callers connect; port 0 picks a free one."},
    FlagRow{"listen",
            kWorker,
            "HOST:PORT",
            "127.0.0.1:50052",
            "Where routers connect; port 0 picks a free one."},
    FlagRow{"metrics_listen",
            kBoth,
            "HOST:PORT",
            "127.0.0.1:9090",
            "Serves /metrics, /livez and /readyz by HTTP."},
    FlagRow{"model",
            kRouter,
            "DIR",
            kRequired,
            "Model directory; config.json and tokenizer.json are read."},
    FlagRow{"model",
            kWorker,
            "DIR",
            kRequired,
            "Model directory: config.json, tokenizer.json and *.safetensors."},
    FlagRow{"replicas",
            kRouter,
            "LIST",
            kRequired,
            "Replicas as HOST:PORT with commas between, or dns:///NAME:PORT (looked up again every "
            "few seconds)."},
    FlagRow{"model_name",
            kRouter,
            "NAME",
            "",
            "What callers may ask for as `model`; empty: the directory's name."},
    FlagRow{"max_inflight_requests",
            kRouter,
            "COUNT",
            "512",
            "Requests under way at once; one more is refused. Of the places to wait beside the "
            "replicas' seats one caller leaves the last ninth to others."},
    FlagRow{
        "max_time_limit", kRouter, "DURATION", "10m", "Longest time that one request may take."},
    FlagRow{"slow_reader_timeout",
            kRouter,
            "DURATION",
            "30s",
            "A reader that takes nothing for that long is cut off."},
    FlagRow{"tls_cert",
            kBoth,
            "FILE",
            "",
            "PEM certificate chain; with it the gRPC port speaks TLS alone. Read again when it "
            "changes."},
    FlagRow{"tls_key", kBoth, "FILE", "", "PEM private key of --tls_cert."},
    FlagRow{"tls_client_ca",
            kBoth,
            "FILE",
            "",
            "PEM authorities: clients must show a certificate of one of them (mTLS)."},
    FlagRow{"replica_tls_ca",
            kRouter,
            "FILE",
            "",
            "PEM authorities of the replicas' certificates: replicas are dialled by TLS, showing "
            "--tls_cert."},
    FlagRow{"token_file",
            kRouter,
            "FILE",
            "",
            "Who may call: NAME:SHA256[:LIMITS] a line. Needs --tls_cert. Read again when it "
            "changes."},
    FlagRow{"reflection", kRouter, "BOOL", "true", "Whether server reflection is offered."},
    FlagRow{"tensor_parallel", kWorker, "COUNT", "1", "Rank processes that share the model."},
    FlagRow{
        "device",
        kWorker,
        "DEVICE",
        "auto",
        "Where the model runs: cpu, cuda (rank r on GPU r), or auto: cuda where there is a GPU."},
    FlagRow{
        "dtype",
        kWorker,
        "TYPE",
        "auto",
        "Type of the weights in memory: auto (the checkpoint's), float32, bfloat16, or with CUDA "
        "float16."},
    FlagRow{"isa",
            kWorker,
            "ISA",
            "auto",
            "Instruction set of the CPU's kernels; auto: the best that the machine has."},
    FlagRow{"threads",
            kWorker,
            "COUNT",
            "0",
            "Threads of one rank; 0: from affinity and cgroup quota over ranks."},
    FlagRow{"max_sequences", kWorker, "COUNT", "16", "Samples of requests that run at once."},
    FlagRow{"max_step_tokens",
            kWorker,
            "COUNT",
            "256",
            "Tokens of one step; longer prompts are prefilled in chunks."},
    FlagRow{
        "kv_cache_bytes",
        kWorker,
        "BYTES",
        "0",
        "KV cache of one rank; 0: from the GPU's free memory, or the machine's under the cgroup "
        "limit."},
    FlagRow{"max_queued_requests",
            kWorker,
            "COUNT",
            "64",
            "Requests that may wait; one more is refused, and one caller leaves the last ninth of "
            "the places to others. They wait for about this number over max_sequences lifetimes of "
            "a request."},
    FlagRow{
        "max_queued_tokens",
        kWorker,
        "COUNT",
        "131072",
        "Prompt tokens that may wait; a request beyond is refused, and one caller leaves the last "
        "ninth of them to others."},
    FlagRow{"prefix_cache",
            kWorker,
            "BOOL",
            "true",
            "Whether prompts that begin alike share the KV cache of what they have in common."},
    FlagRow{"batch_invariant",
            kWorker,
            "BOOL",
            "false",
            "With CUDA: answers do not depend on what else runs, at the price of speed. CPUs are "
            "always so."},
    FlagRow{"stall_limit",
            kWorker,
            "DURATION",
            "10s",
            "A step that takes longer ends the ranks, which are started again; to find each other "
            "they have twelve times as long."},
    FlagRow{"verify_weights",
            kWorker,
            "BOOL",
            "true",
            "Whether a checkpoint with NaN or infinite weights is refused."},
    FlagRow{"max_restarts", kWorker, "COUNT", "5", "Restarts in a row before the worker gives up."},
    FlagRow{"drain_timeout",
            kBoth,
            "DURATION",
            "30s",
            "After SIGTERM, requests under way get that long to end."},
    FlagRow{
        "log_format", kBoth, "FORMAT", "text", "Form of the log lines on stderr: text or json."},
    FlagRow{"log_level",
            kBoth,
            "LEVEL",
            "info",
            "Least level that is logged: debug, info, warning or error."},
};

constexpr std::array kExitCodes = {
    ExitCodeRow{ExitCode::kOk, "ended as asked"},
    ExitCodeRow{ExitCode::kUsage, "wrong flags"},
    ExitCodeRow{ExitCode::kModelOrData,
                "the model directory, or a file of certificates or tokens, cannot be used"},
    ExitCodeRow{ExitCode::kCannotBind, "an address cannot be bound"},
    ExitCodeRow{ExitCode::kInternal, "a bug of ours"},
    ExitCodeRow{ExitCode::kOutOfMemory, "out of memory"},
    ExitCodeRow{ExitCode::kRendezvousFailed, "the ranks did not find each other"},
    ExitCodeRow{ExitCode::kRestartsSpent, "the ranks failed too often in a row"},
};

}  // namespace

std::span<const FlagRow> FlagTable() { return kRows; }

std::span<const ExitCodeRow> ExitCodes() { return kExitCodes; }

}  // namespace phi::service
