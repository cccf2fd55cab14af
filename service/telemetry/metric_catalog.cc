#include "service/telemetry/metric_catalog.h"

#include <array>
#include <vector>

#include "kernels/base/check.h"
#include "service/telemetry/metric_labels.h"

namespace phi::service {
namespace {

// A 1.3 B model decodes in about a millisecond on a GPU and in 100 ms on two cores: both must
// resolve.
constexpr std::array kStepBuckets = {.0001, .0002, .0003, .0005, .00075, .001, .0015, .002,
                                     .003,  .005,  .0075, .01,   .015,   .02,  .03,   .05,
                                     .075,  .1,    .2,    .5,    1.0,    2.0,  5.0,   10.0};
constexpr std::array kFirstTokenBuckets = {.0005,
                                           .001,
                                           .002,
                                           .003,
                                           .005,
                                           .0075,
                                           .01,
                                           .02,
                                           .03,
                                           .05,
                                           .075,
                                           .1,
                                           .2,
                                           .5,
                                           1.0,
                                           2.0,
                                           5.0,
                                           10.0,
                                           30.0};
constexpr std::array kRequestBuckets = {.001,
                                        .002,
                                        .005,
                                        .01,
                                        .02,
                                        .05,
                                        .1,
                                        .2,
                                        .5,
                                        1.0,
                                        2.0,
                                        5.0,
                                        10.0,
                                        20.0,
                                        30.0,
                                        60.0,
                                        120.0,
                                        300.0};
constexpr std::array kOverheadBuckets = {
    .00001, .00002, .00005, .0001, .0002, .0005, .001, .002, .005, .02, .1};
constexpr std::array kTokenBuckets = {
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0};
constexpr std::array kBatchBuckets = {1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0};

template <typename E>
MetricLabel Closed(std::string_view name) {
  return {name, LabelKind::kValues, LabelValues<E>()};
}

// The label lists of all rows; made once, because the reasons are another table's rows.
struct LabelLists {
  MetricLabel rank = {"rank", LabelKind::kRank, {}};
  MetricLabel replica = {"replica", LabelKind::kReplica, {}};
  MetricLabel reason = {"reason", LabelKind::kValues, ReasonLabelValues()};

  std::array<MetricLabel, 1> by_method = {Closed<MethodLabel>("method")};
  std::array<MetricLabel, 3> by_result = {
      Closed<MethodLabel>("method"), {"code", LabelKind::kValues, CodeLabelValues()}, reason};
  std::array<MetricLabel, 1> by_limit = {Closed<RouterLimitLabel>("kind")};
  std::array<MetricLabel, 2> by_replica_state = {replica, Closed<ReplicaStateLabel>("state")};
  std::array<MetricLabel, 1> by_retry = {Closed<RetryLabel>("reason")};
  std::array<MetricLabel, 1> by_reason = {reason};
  std::array<MetricLabel, 1> by_slow_reader = {Closed<SlowReaderLabel>("reason")};
  std::array<MetricLabel, 1> by_finish = {Closed<FinishLabel>("finish_reason")};
  std::array<MetricLabel, 1> by_phase = {Closed<PhaseLabel>("phase")};
  std::array<MetricLabel, 1> by_waste = {Closed<WasteLabel>("reason")};
  std::array<MetricLabel, 1> by_stage = {Closed<StageLabel>("stage")};
  std::array<MetricLabel, 1> by_kv_block = {Closed<KvBlockLabel>("state")};
  std::array<MetricLabel, 1> by_collective = {Closed<CollectiveLabel>("kind")};
  std::array<MetricLabel, 1> by_rank = {rank};
  std::array<MetricLabel, 2> by_memory = {rank, Closed<MemoryLabel>("kind")};
  std::array<MetricLabel, 1> by_restart = {Closed<RestartLabel>("cause")};
  std::array<MetricLabel, 1> by_startup = {Closed<StartupLabel>("phase")};
  std::array<MetricLabel, 4> build = {{{"program", LabelKind::kInfo, {}},
                                       {"version", LabelKind::kInfo, {}},
                                       {"compiler", LabelKind::kInfo, {}},
                                       {"build_type", LabelKind::kInfo, {}}}};
  std::array<MetricLabel, 6> model = {{{"model", LabelKind::kInfo, {}},
                                       {"fingerprint", LabelKind::kInfo, {}},
                                       {"dtype", LabelKind::kInfo, {}},
                                       {"device", LabelKind::kInfo, {}},
                                       {"isa", LabelKind::kInfo, {}},
                                       {"world_size", LabelKind::kInfo, {}}}};
};

using enum MetricType;
using enum MetricSource;
using Id = MetricId;
using Rows = std::vector<MetricRow>;

void AddRouterRows(const LabelLists& labels, Rows& rows) {
  // clang-format off
  rows.insert(rows.end(), {
      {Id::kRouterRequestsTotal, "phi_router_requests_total", kCounter, kRouter,
       labels.by_result, {}, "Calls that ended, by method, gRPC code and reason."},
      {Id::kRouterRequestDurationSeconds, "phi_router_request_duration_seconds", kHistogram,
       kRouter, labels.by_method, kRequestBuckets, "From a call's arrival to its end."},
      {Id::kRouterTimeToFirstTokenSeconds, "phi_router_time_to_first_token_seconds", kHistogram,
       kRouter, labels.by_method, kFirstTokenBuckets,
       "From a call's arrival to its first token at the router."},
      {Id::kRouterOverheadSeconds, "phi_router_overhead_seconds", kHistogram, kRouter,
       labels.by_method, kOverheadBuckets, "The router's own time in a call, waits excluded."},
      {Id::kRouterInflightRequests, "phi_router_inflight_requests", kGauge, kRouter, {}, {},
       "Calls under way."},
      {Id::kRouterLimit, "phi_router_limit", kGauge, kRouter, labels.by_limit, {},
       "The caps that the router refuses above."},
      {Id::kRouterReplicasExpected, "phi_router_replicas_expected", kGauge, kRouter, {}, {},
       "Replicas configured or found by name."},
      {Id::kRouterReplicaState, "phi_router_replica_state", kGauge, kRouter,
       labels.by_replica_state, {},
       "1 for the state that a replica is in; gone when the replica is."},
      {Id::kRouterRetriesTotal, "phi_router_retries_total", kCounter, kRouter, labels.by_retry,
       {}, "Calls tried once more before their first token."},
      {Id::kRouterFailoversTotal, "phi_router_failovers_total", kCounter, kRouter,
       labels.by_retry, {}, "Calls that another replica then answered."},
      {Id::kRouterShedTotal, "phi_router_shed_total", kCounter, kRouter, labels.by_reason, {},
       "Calls refused for load."},
      {Id::kRouterSlowReadersTotal, "phi_router_slow_readers_total", kCounter, kRouter,
       labels.by_slow_reader, {}, "Streams cut off because their reader took nothing."}});
  // clang-format on
}

void AddLeaderRows(const LabelLists& labels, Rows& rows) {
  // clang-format off
  rows.insert(rows.end(), {
      {Id::kTimeToFirstTokenSeconds, "phi_time_to_first_token_seconds", kHistogram, kLeader, {},
       kFirstTokenBuckets, "From a request's arrival at the leader to its first token."},
      {Id::kInterTokenSeconds, "phi_inter_token_seconds", kHistogram, kLeader, {}, kStepBuckets,
       "Between two tokens of one sequence."},
      {Id::kQueueSeconds, "phi_queue_seconds", kHistogram, kLeader, {}, kFirstTokenBuckets,
       "From a request's arrival at the leader to its first step."},
      {Id::kPrefillSeconds, "phi_prefill_seconds", kHistogram, kLeader, {}, kFirstTokenBuckets,
       "From a request's first step to its first token."},
      {Id::kRequestDurationSeconds, "phi_request_duration_seconds", kHistogram, kLeader,
       labels.by_finish, kRequestBuckets, "From a request's arrival at the leader to its end."},
      {Id::kStepSeconds, "phi_step_seconds", kHistogram, kLeader, labels.by_phase, kStepBuckets,
       "One forward pass of the batch over all ranks; prefill where any prompt token was in it."},
      {Id::kStepTokens, "phi_step_tokens", kHistogram, kLeader, labels.by_phase, kTokenBuckets,
       "Tokens in a step."},
      {Id::kBatchSize, "phi_batch_size", kHistogram, kLeader, labels.by_phase, kBatchBuckets,
       "Sequences in a step."},
      {Id::kPromptTokensTotal, "phi_prompt_tokens_total", kCounter, kLeader, {}, {},
       "Prompt tokens of admitted requests."},
      {Id::kGeneratedTokensTotal, "phi_generated_tokens_total", kCounter, kLeader, {}, {},
       "Tokens generated."},
      {Id::kPrefixHitTokensTotal, "phi_prefix_hit_tokens_total", kCounter, kLeader, {}, {},
       "Prompt tokens found in the prefix cache."},
      {Id::kPreemptionsTotal, "phi_preemptions_total", kCounter, kLeader, {}, {},
       "Sequences that gave up their KV blocks and start again."},
      {Id::kWastedTokensTotal, "phi_wasted_tokens_total", kCounter, kLeader, labels.by_waste,
       {}, "Tokens computed that reached nobody."},
      {Id::kCancelledTotal, "phi_cancelled_total", kCounter, kLeader, labels.by_stage, {},
       "Requests whose caller went away, by where they stood."},
      {Id::kRequestsRunning, "phi_requests_running", kGauge, kLeader, {}, {},
       "Requests that take part in steps."},
      {Id::kRequestsWaiting, "phi_requests_waiting", kGauge, kLeader, {}, {},
       "Requests in the waiting queue."},
      {Id::kWaitingTokens, "phi_waiting_tokens", kGauge, kLeader, {}, {},
       "Prompt tokens in the waiting queue."},
      {Id::kKvBlocks, "phi_kv_blocks", kGauge, kLeader, labels.by_kv_block, {},
       "Blocks of the KV cache by state."},
      {Id::kKvUsageRatio, "phi_kv_usage_ratio", kGauge, kLeader, {}, {},
       "Share of the KV blocks that running requests own."}});
  // clang-format on
}

void AddRankRows(const LabelLists& labels, Rows& rows) {
  // clang-format off
  rows.insert(rows.end(), {
      {Id::kCollectiveSeconds, "phi_collective_seconds", kHistogram, kRank,
       labels.by_collective, kStepBuckets, "One collective on one rank, its waiting included."},
      {Id::kCollectiveSecondsTotal, "phi_collective_seconds_total", kCounter, kRank,
       labels.by_rank, {}, "Time inside collectives by rank, waiting included."},
      {Id::kCollectiveBytesTotal, "phi_collective_bytes_total", kCounter, kRank, labels.by_rank,
       {}, "Bytes sent in collectives by rank."},
      {Id::kCollectiveErrorsTotal, "phi_collective_errors_total", kCounter, kRank, {}, {},
       "Collectives that failed; each ends its group."},
      {Id::kRankSkewSeconds, "phi_rank_skew_seconds", kGauge, kRank, {}, {},
       "In the last step: the longest less the shortest time of a rank inside collectives."},
      {Id::kDeviceMemoryBytes, "phi_device_memory_bytes", kGauge, kRank, labels.by_memory, {},
       "Memory that a rank has planned, by use, and what is free beside it."}});
  // clang-format on
}

void AddSupervisorAndCommonRows(const LabelLists& labels, Rows& rows) {
  // clang-format off
  rows.insert(rows.end(), {
      {Id::kReplicaReady, "phi_replica_ready", kGauge, kSupervisor, {}, {},
       "1 while the group serves, 0 otherwise."},
      {Id::kReplicaEpoch, "phi_replica_epoch", kGauge, kSupervisor, {}, {},
       "How often the group was started."},
      {Id::kRankUp, "phi_rank_up", kGauge, kSupervisor, labels.by_rank, {},
       "1 while the rank's process runs, 0 otherwise."},
      {Id::kRankLastStepTimestampSeconds, "phi_rank_last_step_timestamp_seconds", kGauge,
       kSupervisor, labels.by_rank, {},
       "When the rank last began or finished a step, idle ones included (Unix time)."},
      {Id::kReplicaRestartsTotal, "phi_replica_restarts_total", kCounter, kSupervisor,
       labels.by_restart, {}, "Groups that ended without being asked to, by cause."},
      {Id::kStartupSeconds, "phi_startup_seconds", kGauge, kSupervisor, labels.by_startup, {},
       "How long the phases of the group's last start took."},
      {Id::kBuildInfo, "phi_build_info", kGauge, kAll, labels.build, {}, "What runs; always 1."},
      {Id::kModelInfo, "phi_model_info", kGauge, kAll, labels.model, {},
       "What is served; always 1."},
      {Id::kTlsCertificateExpiryTimestampSeconds,
       "phi_tls_certificate_expiry_timestamp_seconds", kGauge, kAll, {}, {},
       "When the served TLS certificate ends (Unix time)."},
      {Id::kLogDroppedTotal, "phi_log_dropped_total", kCounter, kAll, {}, {},
       "Log lines dropped because nothing read standard error."}});
  // clang-format on
}

struct Catalog {
  LabelLists labels;
  Rows rows;

  Catalog() {
    AddRouterRows(labels, rows);
    AddLeaderRows(labels, rows);
    AddRankRows(labels, rows);
    AddSupervisorAndCommonRows(labels, rows);
    PHI_CHECK(rows.size() == static_cast<size_t>(Id::kNumMetrics), "%zu rows", rows.size());
    for (size_t i = 0; i < rows.size(); ++i) {
      PHI_CHECK(rows[i].id == static_cast<MetricId>(i), "row %zu is out of order", i);
    }
  }
};

}  // namespace

std::span<const MetricRow> MetricCatalog() {
  // Rows point into `labels`, so the whole is made in place and never moved.
  static const Catalog catalog;
  return catalog.rows;
}

const MetricRow& MetricInfo(MetricId id) { return MetricCatalog()[static_cast<size_t>(id)]; }

}  // namespace phi::service
