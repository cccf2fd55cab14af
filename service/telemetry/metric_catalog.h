#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

// Every metric of every program: the only place where one is named (docs/api.md, dashboards and
// alerts are checked against it). Labels are closed sets, so a process's possible series are known
// before it starts; one is exported once it was touched, <= 600 a process at TP 8.
namespace phi::service {

enum class MetricType : uint8_t { kCounter, kGauge, kHistogram };

// Which program exports it; what leader and ranks write, the supervisor serves.
enum class MetricSource : uint8_t { kRouter, kLeader, kRank, kSupervisor, kAll };

enum class MetricId : uint16_t {
  kRouterRequestsTotal,
  kRouterRequestDurationSeconds,
  kRouterTimeToFirstTokenSeconds,
  kRouterOverheadSeconds,
  kRouterInflightRequests,
  kRouterLimit,
  kRouterReplicasExpected,
  kRouterReplicaState,
  kRouterRetriesTotal,
  kRouterFailoversTotal,
  kRouterShedTotal,
  kRouterSlowReadersTotal,
  kTimeToFirstTokenSeconds,
  kInterTokenSeconds,
  kQueueSeconds,
  kPrefillSeconds,
  kRequestDurationSeconds,
  kStepSeconds,
  kStepTokens,
  kBatchSize,
  kPromptTokensTotal,
  kGeneratedTokensTotal,
  kPrefixHitTokensTotal,
  kPreemptionsTotal,
  kWastedTokensTotal,
  kCancelledTotal,
  kRequestsRunning,
  kRequestsWaiting,
  kWaitingTokens,
  kKvBlocks,
  kKvUsageRatio,
  kCollectiveSeconds,
  kCollectiveSecondsTotal,
  kCollectiveBytesTotal,
  kCollectiveErrorsTotal,
  kRankSkewSeconds,
  kDeviceMemoryBytes,
  kReplicaReady,
  kReplicaEpoch,
  kRankUp,
  kRankLastStepTimestampSeconds,
  kReplicaRestartsTotal,
  kStartupSeconds,
  kBuildInfo,
  kModelInfo,
  kTlsCertificateExpiryTimestampSeconds,
  kLogDroppedTotal,
  kNumMetrics,
};

// What a label ranges over.
enum class LabelKind : uint8_t {
  kValues,   // the closed list below
  kRank,     // 0 .. world_size - 1
  kReplica,  // slots that the router names as replicas come and go
  kInfo,     // free text set once at start (phi_build_info, phi_model_info)
};

struct MetricLabel {
  std::string_view name;
  LabelKind kind = LabelKind::kValues;
  std::span<const std::string_view> values;
};

struct MetricRow {
  MetricId id;
  std::string_view name;  // "phi_router_requests_total"
  MetricType type;
  MetricSource source;
  std::span<const MetricLabel> labels;
  std::span<const double> buckets;  // upper bounds, ascending; histograms only
  std::string_view help;
};

// All rows, in the enum's order; process_* come from process_metrics.h and are listed in docs only.
std::span<const MetricRow> MetricCatalog();
const MetricRow& MetricInfo(MetricId id);

}  // namespace phi::service
