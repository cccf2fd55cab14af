#include "service/worker/supervisor.h"

#include <sys/prctl.h>
#include <sys/wait.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "service/access/port_limits.h"
#include "service/telemetry/logging.h"
#include "service/telemetry/metric_page.h"
#include "service/telemetry/metrics_server.h"
#include "service/worker/end_signals.h"
#include "service/worker/group/blame.h"
#include "service/worker/group/group_metrics.h"
#include "service/worker/group/launch_plan.h"
#include "service/worker/group/listen_address.h"
#include "service/worker/group/rank_group.h"

namespace phi::service {
namespace {

constexpr int kTickMs = 50;
constexpr int64_t kNanos = 1'000'000'000;
// To connect and load; a model on a slow network disk takes minutes.
constexpr int64_t kStartLimitNs = 900 * kNanos;
// Ranks that a peer's death ends anyway get that long to say so to their callers.
constexpr int64_t kLastWordsNs = 300'000'000;
// After the leader's own limit, for what it flushes last; less than what a pod has left then.
constexpr int64_t kDrainGraceNs = 4 * kNanos;
// A group that served that long starts a new row of restarts.
constexpr int64_t kHealthyNs = 10 * kNanos;
constexpr int64_t kBackoffMinNs = kNanos / 10;
constexpr int64_t kBackoffMaxNs = 10 * kNanos;

// What the probes answer; written by the supervisor, read by the metrics server's threads.
class Health {
 public:
  void Set(bool live, bool ready, std::string text) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    live_ = {live, text};
    ready_ = {ready, std::move(text)};
  }
  HealthAnswer live() const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return live_;
  }
  HealthAnswer ready() const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return ready_;
  }

 private:
  mutable absl::Mutex mutex_;
  HealthAnswer live_ ABSL_GUARDED_BY(mutex_) = {true, "starting"};
  HealthAnswer ready_ ABSL_GUARDED_BY(mutex_) = {false, "starting"};
};

// Why a group's watch ended.
struct GroupEnd {
  RestartLabel cause = RestartLabel::kRankExit;
  ExitCode rank_code =
      ExitCode::kInternal;  // of the rank to blame; kInternal by a signal or a stall
  bool served = false;
  bool drained = false;  // as asked
  int64_t served_ns = 0;
};

class Supervisor {
 public:
  Supervisor(const WorkerOptions& options,
             LaunchPlan plan,
             MetricPage* page,
             Health* health,
             EndSignals* signals)
      : options_(options),
        plan_(std::move(plan)),
        metrics_(*page, plan_.spec.world_size),
        health_(health),
        signals_(signals) {
    plan_.spec.metric_fd = page->fd();
  }

  ExitCode Run(const std::string& listen);

 private:
  GroupEnd RunGroup();
  // One look at the group; the end where there is one.
  std::optional<GroupEnd> Watch(RankGroup& group);
  void NoteServing(const RankGroup& group);
  std::optional<GroupEnd> CheckExits(RankGroup& group);
  std::optional<GroupEnd> CheckConnecting(const RankGroup& group);
  std::optional<GroupEnd> CheckStall(const RankGroup& group);
  void FollowSignals(int requests);
  void Drain(RankGroup& group);
  void ReapChildren(RankGroup& group);
  // Whether the wait ended without a request to end.
  bool WaitBackoff(int restarts_in_row);
  ExitCode GiveUp(const GroupEnd& end);

  const WorkerOptions& options_;
  LaunchPlan plan_;
  GroupMetrics metrics_;
  Health* const health_;
  EndSignals* const signals_;

  int end_requests_ = 0;
  // Of the present group.
  int64_t serving_since_ns_ = 0;
  int64_t first_exit_ns_ = 0;
  int64_t drain_until_ns_ = 0;
  int64_t awake_since_ns_ = 0;
  int64_t last_tick_ns_ = 0;
};

ExitCode Supervisor::Run(const std::string& listen) {
  plan_.spec.listen = listen;
  bool served_ever = false;
  int restarts_in_row = 0;
  for (uint64_t epoch = 1;; ++epoch) {
    plan_.spec.epoch = epoch;
    metrics_.OnEpoch(epoch);
    const GroupEnd end = RunGroup();
    metrics_.OnDown();
    if (end.drained) {
      LogInfo("ended as asked", {{"epoch", epoch}});
      return ExitCode::kOk;
    }
    if (end_requests_ > 0) return end.rank_code;
    health_->Set(true, false, absl::StrFormat("restarting, epoch %d was lost", epoch));
    metrics_.OnRestart(end.cause);
    served_ever = served_ever || end.served;
    const bool hopeless =
        end.rank_code == ExitCode::kUsage || end.rank_code == ExitCode::kModelOrData ||
        end.rank_code == ExitCode::kCannotBind || end.rank_code == ExitCode::kOutOfMemory;
    if (hopeless && !served_ever) return end.rank_code;
    restarts_in_row = end.served_ns >= kHealthyNs ? 1 : restarts_in_row + 1;
    if (restarts_in_row > options_.max_restarts) return GiveUp(end);
    if (!WaitBackoff(restarts_in_row)) return ExitCode::kOk;
  }
}

GroupEnd Supervisor::RunGroup() {
  auto group = RankGroup::Spawn(plan_.spec);
  if (!group.ok()) {
    LogError("cannot start ranks", {{"error", std::string(group.status().message())}});
    return {.cause = RestartLabel::kStartup};
  }
  for (int rank = 0; rank < plan_.spec.world_size; ++rank) {
    LogInfo("rank started",
            {{"rank", rank}, {"pid", (*group)->pid(rank)}, {"epoch", plan_.spec.epoch}});
  }
  serving_since_ns_ = first_exit_ns_ = drain_until_ns_ = 0;
  awake_since_ns_ = last_tick_ns_ = MonotonicNanos();
  for (;;) {
    FollowSignals(signals_->Wait(kTickMs));
    ReapChildren(**group);
    if (std::optional<GroupEnd> end = Watch(**group)) {
      (*group)->Kill();
      (*group)->Reap();
      end->served = serving_since_ns_ > 0;
      end->served_ns = end->served ? MonotonicNanos() - serving_since_ns_ : 0;
      return *end;
    }
  }
}

std::optional<GroupEnd> Supervisor::Watch(RankGroup& group) {
  const int64_t now = MonotonicNanos();
  // This process slept too (a paused container): what it did not see it does not judge.
  if (now - last_tick_ns_ > kNanos) awake_since_ns_ = now;
  last_tick_ns_ = now;
  metrics_.OnTick(group);
  if (serving_since_ns_ == 0 && group.page().serving_ns != 0) NoteServing(group);
  // Not where the request is read: it may come between the ranks' readiness and this look at it.
  if (end_requests_ > 0 && serving_since_ns_ != 0 && drain_until_ns_ == 0) Drain(group);
  if (auto end = CheckExits(group)) return end;
  if (auto end = CheckConnecting(group)) return end;
  // A second request ends at once, and so does the first one while nothing is served.
  if (end_requests_ >= 2 || (end_requests_ == 1 && serving_since_ns_ == 0))
    return GroupEnd{.drained = true};
  if (drain_until_ns_ != 0 && now > drain_until_ns_) {
    LogError("the drain took too long");
    return GroupEnd{.rank_code = ExitCode::kInternal};
  }
  return CheckStall(group);
}

void Supervisor::NoteServing(const RankGroup& group) {
  serving_since_ns_ = MonotonicNanos();
  metrics_.OnServing(group);
  const std::string text =
      absl::StrFormat("listening on %s, epoch %d", plan_.spec.listen, plan_.spec.epoch);
  LogInfo("ready: " + text);
  if (end_requests_ == 0) health_->Set(true, true, "ready: " + text);
}

std::optional<GroupEnd> Supervisor::CheckExits(RankGroup& group) {
  if (group.exits().empty()) return std::nullopt;
  if (first_exit_ns_ == 0) {
    first_exit_ns_ = MonotonicNanos();
    if (end_requests_ == 0) health_->Set(true, false, "a rank ended");
  }
  if (!group.all_ended() && MonotonicNanos() - first_exit_ns_ < kLastWordsNs) return std::nullopt;
  const RankExit cause = FirstCause(group.exits());
  if (end_requests_ > 0 && !cause.by_signal() && cause.exit_code() == 0)
    return GroupEnd{.drained = true};
  const RankSnapshot snapshot =
      ReadSnapshot(group.page().ranks[static_cast<size_t>(cause.rank)].progress);
  LogError(absl::StrFormat("rank %d %s", cause.rank, cause.what()),
           {{"rank", cause.rank},
            {"epoch", plan_.spec.epoch},
            {"where", WhereItStands(snapshot, plan_.num_layers)}});
  GroupEnd end;
  end.cause = cause.by_signal()        ? RestartLabel::kRankSignal
              : serving_since_ns_ == 0 ? RestartLabel::kStartup
                                       : RestartLabel::kRankExit;
  if (cause.exit_code() > 0) end.rank_code = static_cast<ExitCode>(cause.exit_code());
  return end;
}

std::optional<GroupEnd> Supervisor::CheckConnecting(const RankGroup& group) {
  const int64_t limit_ns = kConnectStallLimits * plan_.spec.stall_limit_ms * 1'000'000;
  if (MonotonicNanos() - std::max(group.spawned_ns(), awake_since_ns_) <= limit_ns)
    return std::nullopt;
  std::string absent;
  bool all_connected = true;
  for (int rank = 0; rank < plan_.spec.world_size; ++rank) {
    const RankSlot& slot = group.page().ranks[static_cast<size_t>(rank)];
    all_connected = all_connected && slot.connected_ns != 0;
    if (slot.connecting_ns == 0) absl::StrAppendFormat(&absent, " %d", rank);
  }
  if (all_connected) return std::nullopt;
  const std::string text =
      absl::StrFormat("the ranks did not find each other; those that never came:%s",
                      absent.empty() ? " none" : absent);
  LogError(text, {{"epoch", plan_.spec.epoch}});
  health_->Set(true, false, text);
  return GroupEnd{.cause = RestartLabel::kStartup, .rank_code = ExitCode::kRendezvousFailed};
}

std::optional<GroupEnd> Supervisor::CheckStall(const RankGroup& group) {
  const int64_t now = MonotonicNanos();
  std::vector<RankSnapshot> snapshots;
  bool stalled =
      serving_since_ns_ == 0 && now - std::max(group.spawned_ns(), awake_since_ns_) > kStartLimitNs;
  for (int rank = 0; rank < plan_.spec.world_size; ++rank) {
    RankSnapshot snapshot = ReadSnapshot(group.page().ranks[static_cast<size_t>(rank)].progress);
    stalled =
        stalled || IsStalled(snapshot, now, awake_since_ns_, plan_.spec.stall_limit_ms * 1'000'000);
    snapshots.push_back(snapshot);
  }
  if (!stalled) return std::nullopt;
  for (size_t rank = 0; rank < snapshots.size(); ++rank)
    snapshots[rank].stopped = group.IsStopped(static_cast<int>(rank));
  const int rank = RankToBlame(snapshots);
  const RankSnapshot& blamed = snapshots[static_cast<size_t>(rank)];
  const std::string where = WhereItStands(blamed, plan_.num_layers);
  LogError(absl::StrFormat("rank %d stands still %s", rank, where),
           {{"rank", rank},
            {"pid", group.pid(rank)},
            {"epoch", plan_.spec.epoch},
            {"where", where},
            {"step", blamed.steps_started},
            {"collective", blamed.collective_index},
            {"stopped", blamed.stopped}});
  health_->Set(true, false, absl::StrFormat("rank %d stands still %s", rank, where));
  return GroupEnd{.cause = RestartLabel::kStall};
}

void Supervisor::FollowSignals(int requests) {
  if (requests == 0) return;
  end_requests_ += requests;
  health_->Set(true, false, "draining");
}

void Supervisor::Drain(RankGroup& group) {
  LogInfo("draining", {{"seconds", absl::ToDoubleSeconds(options_.drain_timeout)}});
  metrics_.OnDown();
  drain_until_ns_ =
      MonotonicNanos() + absl::ToInt64Nanoseconds(options_.drain_timeout) + kDrainGraceNs;
  group.AskToDrain();
}

void Supervisor::ReapChildren(RankGroup& group) {
  int wait_status = 0;
  // Any child: orphans of a rank come to this process, which is PID 1 in a container.
  for (pid_t pid = 0; (pid = waitpid(-1, &wait_status, WNOHANG)) > 0;)
    group.NoteExit(pid, wait_status);
}

bool Supervisor::WaitBackoff(int restarts_in_row) {
  const double factor = std::pow(2.0, std::min(restarts_in_row - 1, 20));
  const auto backoff = static_cast<int64_t>(
      std::min(static_cast<double>(kBackoffMaxNs), static_cast<double>(kBackoffMinNs) * factor));
  const int64_t until = MonotonicNanos() + backoff;
  LogWarning(
      "starting the ranks again",
      {{"restarts_in_row", restarts_in_row}, {"in_seconds", static_cast<double>(backoff) / 1e9}});
  while (MonotonicNanos() < until && end_requests_ == 0) end_requests_ += signals_->Wait(kTickMs);
  return end_requests_ == 0;
}

ExitCode Supervisor::GiveUp(const GroupEnd& end) {
  LogError("restarts are spent", {{"max_restarts", options_.max_restarts}});
  health_->Set(false, false, "restarts are spent");
  // Long enough for a probe that is under way to see it.
  const int64_t until = MonotonicNanos() + kNanos;
  while (MonotonicNanos() < until && end_requests_ == 0) end_requests_ += signals_->Wait(kTickMs);
  return end.rank_code == ExitCode::kRendezvousFailed ? end.rank_code : ExitCode::kRestartsSpent;
}

ExitCode Fail(ExitCode code, std::string_view message) {
  LogError(message, {{"exit_code", static_cast<int>(code)}});
  return code;
}

}  // namespace

ExitCode RunSupervisor(const WorkerOptions& options) {
  EndSignals signals;
  RaiseFileLimit();
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  auto page = MetricPage::CreateShared(options.tensor_parallel);
  if (!page.ok()) return Fail(ExitCode::kInternal, std::string(page.status().message()));
  (*page)->ShowCounters(
      {MetricSource::kLeader, MetricSource::kRank, MetricSource::kSupervisor, MetricSource::kAll});
  const absl::Status logging = StartLogging({.program = "phi-worker",
                                             .format = options.log_format,
                                             .level = options.log_level,
                                             .dropped = (*page)->Get(MetricId::kLogDroppedTotal)});
  if (!logging.ok()) return Fail(ExitCode::kUsage, std::string(logging.message()));

  LaunchPlan plan;
  if (const LaunchError error = MakeLaunchPlan(options, &plan); error.code != ExitCode::kOk) {
    return Fail(error.code, error.message);
  }
  if (const absl::Status tls = CheckTlsFiles(options.tls, "--tls_client_ca"); !tls.ok())
    return Fail(ExitCode::kModelOrData, std::string(tls.message()));
  const auto address = ProbeListenAddress(options.listen);
  if (!address.ok()) {
    const bool usage = absl::IsInvalidArgument(address.status());
    return Fail(usage ? ExitCode::kUsage : ExitCode::kCannotBind,
                std::string(address.status().message()));
  }
  Health health;
  const auto server = MetricsServer::Start({.listen = options.metrics_listen,
                                            .livez = [&] { return health.live(); },
                                            .readyz = [&] { return health.ready(); }},
                                           page->get());
  if (!server.ok()) return Fail(ExitCode::kCannotBind, std::string(server.status().message()));
  LogInfo(absl::StrFormat("metrics on port %d", (*server)->port()));
  if (options.tls.cert.empty() && !address->loopback) {
    LogWarning(
        "LISTENING BEYOND LOOPBACK WITHOUT TLS: anyone who reaches this port may use the model and "
        "read its answers",
        {{"listen", address->text}});
  }
  LogPlan(plan);
  SetInfoMetrics(plan.spec, page->get());
  return Supervisor(options, std::move(plan), page->get(), &health, &signals).Run(address->text);
}

}  // namespace phi::service
