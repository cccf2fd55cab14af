#include "service/worker/group/group_metrics.h"

#include <algorithm>
#include <chrono>
#include <string>

#include "service/api/model_name.h"

namespace phi::service {
namespace {

double SecondsBetween(int64_t from_ns, int64_t to_ns) {
  return static_cast<double>(to_ns - from_ns) / 1e9;
}

double UnixSeconds(int64_t monotonic_ns) {
  const auto unix_now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(unix_now).count() -
         SecondsBetween(monotonic_ns, MonotonicNanos());
}

}  // namespace

void GroupMetrics::OnEpoch(uint64_t epoch) const {
  page_.Get(MetricId::kReplicaEpoch).Set(static_cast<double>(epoch));
  page_.Get(MetricId::kReplicaReady).Set(0);
}

void GroupMetrics::OnServing(const RankGroup& group) const {
  page_.Get(MetricId::kReplicaReady).Set(1);
  int64_t started = 0;
  int64_t connected = 0;
  int64_t loaded = 0;
  for (int rank = 0; rank < world_size_; ++rank) {
    const RankSlot& slot = group.page().ranks[static_cast<size_t>(rank)];
    started = std::max(started, slot.started_ns.load());
    connected = std::max(connected, slot.connected_ns.load());
    loaded = std::max(loaded, slot.loaded_ns.load());
  }
  const int64_t serving = group.page().serving_ns;
  const auto set = [&](StartupLabel phase, int64_t from_ns, int64_t to_ns) {
    page_.Get(MetricId::kStartupSeconds, {phase}).Set(SecondsBetween(from_ns, to_ns));
  };
  set(StartupLabel::kSpawn, group.spawned_ns(), started);
  set(StartupLabel::kConnect, started, connected);
  set(StartupLabel::kLoad, connected, loaded);
  set(StartupLabel::kWarmUp, loaded, serving);
  set(StartupLabel::kTotal, group.spawned_ns(), serving);
}

void GroupMetrics::OnDown() const { page_.Get(MetricId::kReplicaReady).Set(0); }

void GroupMetrics::OnRestart(RestartLabel cause) const {
  page_.Get(MetricId::kReplicaRestartsTotal, {cause}).Add(1);
  for (int rank = 0; rank < world_size_; ++rank) page_.Get(MetricId::kRankUp, {rank}).Set(0);
  // The leader that counted them is gone.
  for (const MetricId id : {MetricId::kRequestsRunning,
                            MetricId::kRequestsWaiting,
                            MetricId::kWaitingTokens,
                            MetricId::kKvUsageRatio}) {
    page_.Get(id).Set(0);
  }
  for (const KvBlockLabel state :
       {KvBlockLabel::kFree, KvBlockLabel::kCached, KvBlockLabel::kOwned}) {
    page_.Get(MetricId::kKvBlocks, {state}).Set(0);
  }
}

void GroupMetrics::OnTick(const RankGroup& group) const {
  double longest = 0;
  double shortest = 0;
  for (int rank = 0; rank < world_size_; ++rank) {
    const RankSlot& slot = group.page().ranks[static_cast<size_t>(rank)];
    page_.Get(MetricId::kRankUp, {rank}).Set(group.pid(rank) > 0 ? 1 : 0);
    const double seconds = slot.step_collective_seconds;
    longest = rank == 0 ? seconds : std::max(longest, seconds);
    shortest = rank == 0 ? seconds : std::min(shortest, seconds);
    const int64_t last_change = slot.progress.last_change_ns;
    if (last_change != 0)
      page_.Get(MetricId::kRankLastStepTimestampSeconds, {rank}).Set(UnixSeconds(last_change));
  }
  page_.Get(MetricId::kRankSkewSeconds).Set(longest - shortest);
}

void SetInfoMetrics(const RankSpec& spec, MetricPage* page) {
  page->SetInfo(MetricId::kBuildInfo, {"phi-worker", PHI_VERSION, __VERSION__, PHI_BUILD_TYPE});
  page->SetInfo(MetricId::kModelInfo,
                {ModelName(spec.model_dir),
                 spec.fingerprint,
                 spec.dtype,
                 spec.device,
                 spec.isa,
                 std::to_string(spec.world_size)});
}

}  // namespace phi::service
