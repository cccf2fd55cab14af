#include "service/worker/group/rank_process.h"

#include <grpc/support/log.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <new>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_format.h"
#include "kernels/base/failpoint.h"
#include "kernels/base/status_macros.h"
#include "service/telemetry/logging.h"
#include "service/telemetry/metric_page.h"
#include "service/worker/device/device_choice.h"
#include "service/worker/device/rank_device.h"
#include "service/worker/group/group_page.h"
#include "service/worker/group/lifeline.h"
#include "service/worker/group/measured_rank.h"
#include "service/worker/group/rank_spec.h"
#include "service/worker/leader_metrics.h"
#include "service/worker/step_loop.h"
#include "service/worker/worker_server.h"
#include "shard/rank.h"

namespace phi::service {
namespace {

// How long an answer's last bytes may take to leave when the group ends.
constexpr std::chrono::milliseconds kFlushTime{500};

// An error and the exit code that tells the supervisor what kind it is.
struct RankEnd {
  ExitCode code = ExitCode::kOk;
  absl::Status status;
};

// A file that is cut short while it is mapped: no call returns an error, the access itself fails.
void OnBusError(int) {
  constexpr char kMessage[] = "phi-worker: a model file was changed while it was read\n";
  if (write(STDERR_FILENO, kMessage, sizeof(kMessage) - 1) < 0) {
  }
  _exit(static_cast<int>(ExitCode::kModelOrData));
}

// gRPC's own lines are for whoever debugs it: a port scan must not fill the log.
void LogGrpcLine(gpr_log_func_args* args) {
  LogDebug("grpc", {{"text", std::string_view(args->message)}});
}

void SetSignals() {
  // The supervisor's death is this process's, even where it could not close the lifeline.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  // A drain is asked for by the lifeline: a SIGTERM or SIGINT for the whole process group is the
  // supervisor's to act on.
  signal(SIGTERM, SIG_IGN);
  signal(SIGINT, SIG_IGN);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGBUS, OnBusError);
}

// What a rank has in common with its group, alive as long as the process.
struct RankContext {
  RankSpec spec;
  std::unique_ptr<MetricPage> metrics;
  std::unique_ptr<SharedGroupPage> group;
  std::optional<PlanEnd> plan_end;
  std::unique_ptr<shard::Rank> rank;
  std::unique_ptr<Lifeline> lifeline;

  RankSlot* slot() const { return &(*group)->ranks[static_cast<size_t>(spec.rank)]; }
};

void PublishMemory(const RankContext& context) {
  const auto set = [&](MemoryLabel kind, uint64_t bytes) {
    context.metrics->Get(MetricId::kDeviceMemoryBytes, {context.spec.rank, kind})
        .Set(static_cast<double>(bytes));
  };
  const shard::MemoryPlan& memory = context.rank->memory();
  set(MemoryLabel::kWeights, memory.weights);
  set(MemoryLabel::kKvCache, memory.kv_cache);
  set(MemoryLabel::kActivations, memory.activations);
  set(MemoryLabel::kFree, FreeMemoryBytes(context.spec));
}

RankEnd LoadRank(RankContext& context) {
  const RankSpec& spec = context.spec;
  auto backend = MakeRankBackend(spec);
  if (!backend.ok()) {
    const bool memory = absl::IsResourceExhausted(backend.status());
    return {memory ? ExitCode::kOutOfMemory : ExitCode::kUsage, backend.status()};
  }
  if (absl::Status status = PHI_FAILPOINT(absl::StrFormat("rank%d.before_connect", spec.rank));
      !status.ok())
    return {ExitCode::kInternal, status};
  context.slot()->connecting_ns = MonotonicNanos();
  auto communicator = ConnectRanks(spec, **backend, *context.plan_end);
  if (!communicator.ok()) return {ExitCode::kRendezvousFailed, communicator.status()};
  context.slot()->connected_ns = MonotonicNanos();
  const shard::RankOptions options{.model_dir = spec.model_dir,
                                   .num_real_tokens = spec.vocabulary_tokens,
                                   .eos_token_id = spec.eos_token_id,
                                   .limits = {.max_sequences = spec.max_sequences,
                                              .max_step_tokens = spec.max_step_tokens,
                                              .num_kv_blocks = spec.num_kv_blocks},
                                   .verify_weights = spec.verify_weights};
  auto rank =
      shard::Rank::Create(options,
                          *std::move(backend),
                          MakeMeasuredCommunicator(*std::move(communicator), *context.metrics),
                          &context.slot()->progress);
  if (!rank.ok()) {
    const bool memory = absl::IsResourceExhausted(rank.status());
    return {memory ? ExitCode::kOutOfMemory : ExitCode::kModelOrData, rank.status()};
  }
  context.rank = MakeMeasuredRank(*std::move(rank), spec.rank, *context.metrics, context.slot());
  PublishMemory(context);
  context.slot()->loaded_ns = MonotonicNanos();
  LogDebug("rank loaded", {{"rank", spec.rank}, {"with", context.rank->Description()}});
  return {};
}

RankEnd RunFollower(RankContext& context) {
  shard::PlanReceiver& receiver = *context.plan_end->receiver;
  for (;;) {
    // How long is too long is the supervisor's to say; here it only bounds one wait.
    auto plan = receiver.Receive(absl::Minutes(1));
    if (absl::IsDeadlineExceeded(plan.status())) continue;
    if (absl::IsCancelled(plan.status())) return {};
    if (!plan.ok()) return {ExitCode::kInternal, plan.status()};
    if (plan->epoch != context.spec.epoch)
      return {ExitCode::kInternal, absl::InternalError("a plan of another epoch")};
    if (auto result = context.rank->Execute(*plan); !result.ok())
      return {ExitCode::kInternal, result.status()};
  }
}

SchedulerLimits LimitsOf(const RankSpec& spec) {
  return {.context_tokens = spec.context_tokens,
          .vocabulary_tokens = spec.vocabulary_tokens,
          .eos_token_id = spec.eos_token_id,
          .max_sequences = spec.max_sequences,
          .max_step_tokens = spec.max_step_tokens,
          .num_kv_blocks = spec.num_kv_blocks,
          .max_queued_requests = spec.max_queued_requests,
          .max_queued_tokens = spec.max_queued_tokens,
          .prefix_cache = spec.prefix_cache};
}

WorkerServerOptions ServerOptionsOf(const RankContext& context) {
  const RankSpec& spec = context.spec;
  return {.listen = spec.listen,
          .tls = {.cert = spec.tls_cert, .key = spec.tls_key, .peer_ca = spec.tls_client_ca},
          .metrics = context.metrics.get(),
          .identity = {.epoch = spec.epoch,
                       .fingerprint = spec.fingerprint,
                       .world_size = static_cast<uint32_t>(spec.world_size),
                       .dtype = spec.dtype,
                       .isa = spec.isa},
          .limits = LimitsOf(spec)};
}

RankEnd RunLeader(RankContext& context) {
  const RankSpec& spec = context.spec;
  gpr_set_log_function(LogGrpcLine);
  LeaderMetrics metrics(*context.metrics);
  shard::PlanSender& sender = *context.plan_end->sender;
  const auto stall_limit = std::chrono::milliseconds(spec.stall_limit_ms);
  StepLoop loop(
      {.limits = LimitsOf(spec), .epoch = spec.epoch, .stall_limit = stall_limit},
      context.rank.get(),
      [&](const shard::StepPlan& plan) { return sender.Send(plan, absl::FromChrono(stall_limit)); },
      &metrics);
  // The others' load times must not count as a stalled first step. The supervisor bounds this wait.
  while (!(*context.group)->AllLoaded(spec.world_size))
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  if (absl::Status status = loop.WarmUp(); !status.ok()) return {ExitCode::kInternal, status};
  // No longer needed; the supervisor might not live to remove it.
  std::error_code ignored;
  if (spec.world_size > 1) std::filesystem::remove_all(spec.rendezvous_dir, ignored);

  loop.Start();
  auto server = WorkerServer::Start(ServerOptionsOf(context), &loop);
  if (!server.ok()) return {ExitCode::kCannotBind, server.status()};
  (*context.group)->serving_ns = MonotonicNanos();
  LogDebug("leader serves",
           {{"chunk", loop.chunk_limits().alone},
            {"chunk_beside_decodes", loop.chunk_limits().beside_decodes}});
  context.lifeline->OnDrain([&] {
    (*server)->SetNotReady();
    loop.Drain(std::chrono::steady_clock::now() + std::chrono::milliseconds(spec.drain_timeout_ms));
  });
  const absl::Status status = loop.Wait();
  context.lifeline->OnDrain(nullptr);
  (*server)->Shutdown(kFlushTime);
  if (!status.ok()) return {ExitCode::kInternal, status};
  return {};
}

absl::Status Attach(RankContext& context) {
  const RankSpec& spec = context.spec;
  PHI_ASSIGN_OR_RETURN(context.metrics, MetricPage::Attach(spec.metric_fd, spec.world_size));
  PHI_ASSIGN_OR_RETURN(SharedGroupPage group, SharedGroupPage::Attach(spec.group_fd));
  context.group = std::make_unique<SharedGroupPage>(std::move(group));
  context.slot()->started_ns = MonotonicNanos();
  context.plan_end.emplace(spec);
  context.lifeline = std::make_unique<Lifeline>(spec.lifeline_fd);
  return StartLogging({.program = absl::StrFormat("phi-worker rank %d", spec.rank),
                       .format = spec.log_format,
                       .level = spec.log_level,
                       .dropped = context.metrics->Get(MetricId::kLogDroppedTotal)});
}

RankEnd Run(RankContext& context) {
  if (absl::Status status = Attach(context); !status.ok()) return {ExitCode::kInternal, status};
  if (RankEnd end = LoadRank(context); !end.status.ok()) return end;
  return context.spec.rank == 0 ? RunLeader(context) : RunFollower(context);
}

}  // namespace

ExitCode RunRankProcess(const std::string& spec_text) {
  SetSignals();
  // Not destroyed: the lifeline's thread uses it to the end of the process. Static, so that it
  // stays reachable.
  static auto* const context = new RankContext;
  RankEnd end;
  try {
    absl::StatusOr<RankSpec> spec = DecodeRankSpec(spec_text);
    if (!spec.ok()) {
      LogError("wrong rank process argument", {{"error", std::string(spec.status().message())}});
      return ExitCode::kUsage;
    }
    context->spec = *std::move(spec);
    end = Run(*context);
  } catch (const std::bad_alloc&) {
    end = {ExitCode::kOutOfMemory, absl::ResourceExhaustedError("out of memory")};
  }
  if (!end.status.ok()) {
    LogError("rank ends",
             {{"rank", context->spec.rank}, {"error", std::string(end.status.message())}});
  }
  // Threads of CUDA and NCCL, whose communicator nobody destroys, must not meet the destructors of
  // exit(). Lines of the log are written when they are made.
  if (context->spec.device == kCudaDevice) _exit(static_cast<int>(end.code));
  return end.code;
}

}  // namespace phi::service
