#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

// Every metric of every program: the only place where one is named (docs/api.md, dashboards and alerts are checked
// against it). Labels are closed sets, so that a process's series are known before it starts: <= 600 at TP 8.
namespace phi::service {

enum class MetricType { kCounter, kGauge, kHistogram };

// Which program exports it.
enum class MetricSource { kRouter, kLeader, kRank, kSupervisor, kAll };

// One label: its closed set of values, or (values empty) `rank` (0 .. world_size - 1) or `replica` (see MetricPage).
struct MetricLabel {
  std::string_view name;
  std::span<const std::string_view> values;
};

enum class MetricId : size_t;  // one enumerator a metric, in metric_ids.h

struct MetricRow {
  MetricId id;
  std::string_view name;  // "phi_router_requests_total"
  MetricType type;
  MetricSource source;
  std::span<const MetricLabel> labels;
  std::span<const double> buckets;  // upper bounds, histograms only
  std::string_view help;
};

std::span<const MetricRow> MetricCatalog();

}  // namespace phi::service
