#include "service/telemetry/metric_labels.h"

#include <array>
#include <vector>

namespace phi::service {
namespace {

constexpr std::array<std::string_view, 6> kMethods = {
    "Generate", "GenerateStream", "Tokenize", "Detokenize", "GetModelInfo", "other"};
constexpr std::array<std::string_view, 17> kCodes = {"OK",
                                                     "CANCELLED",
                                                     "UNKNOWN",
                                                     "INVALID_ARGUMENT",
                                                     "DEADLINE_EXCEEDED",
                                                     "NOT_FOUND",
                                                     "ALREADY_EXISTS",
                                                     "PERMISSION_DENIED",
                                                     "RESOURCE_EXHAUSTED",
                                                     "FAILED_PRECONDITION",
                                                     "ABORTED",
                                                     "OUT_OF_RANGE",
                                                     "UNIMPLEMENTED",
                                                     "INTERNAL",
                                                     "UNAVAILABLE",
                                                     "DATA_LOSS",
                                                     "UNAUTHENTICATED"};
static_assert(static_cast<size_t>(absl::StatusCode::kUnauthenticated) + 1 == kCodes.size());
constexpr std::array<std::string_view, 2> kPhases = {"prefill", "decode"};
constexpr std::array<std::string_view, 9> kFinishes = {"eos",
                                                       "max_new_tokens",
                                                       "context_length",
                                                       "stop_string",
                                                       "stop_token",
                                                       "stop_condition",
                                                       "time_limit",
                                                       "cancelled",
                                                       "error"};
constexpr std::array<std::string_view, 3> kStages = {"queued", "prefill", "decode"};
constexpr std::array<std::string_view, 4> kWastes = {"cancelled", "deadline", "preempted", "error"};
constexpr std::array<std::string_view, 2> kCollectives = {"all_reduce", "gather"};
constexpr std::array<std::string_view, 4> kMemories = {
    "weights", "kv_cache", "activations", "free"};
constexpr std::array<std::string_view, 3> kKvBlocks = {"free", "cached", "owned"};
constexpr std::array<std::string_view, 4> kRestarts = {
    "rank_exit", "rank_signal", "stall", "startup"};
constexpr std::array<std::string_view, 5> kStartups = {
    "spawn", "load", "connect", "warm_up", "total"};
constexpr std::array<std::string_view, 5> kReplicaStates = {
    "connecting", "ready", "draining", "lost", "refused"};
constexpr std::array<std::string_view, 3> kRouterLimits = {
    "inflight_requests", "tokenizer_queue", "message_bytes"};
constexpr std::array<std::string_view, 4> kRetries = {
    "unreachable", "replica_lost", "draining", "full"};
constexpr std::array<std::string_view, 2> kSlowReaders = {"stalled", "buffer_full"};

}  // namespace

template <>
std::span<const std::string_view> LabelValues<MethodLabel>() {
  return kMethods;
}
template <>
std::span<const std::string_view> LabelValues<PhaseLabel>() {
  return kPhases;
}
template <>
std::span<const std::string_view> LabelValues<FinishLabel>() {
  return kFinishes;
}
template <>
std::span<const std::string_view> LabelValues<StageLabel>() {
  return kStages;
}
template <>
std::span<const std::string_view> LabelValues<WasteLabel>() {
  return kWastes;
}
template <>
std::span<const std::string_view> LabelValues<CollectiveLabel>() {
  return kCollectives;
}
template <>
std::span<const std::string_view> LabelValues<MemoryLabel>() {
  return kMemories;
}
template <>
std::span<const std::string_view> LabelValues<KvBlockLabel>() {
  return kKvBlocks;
}
template <>
std::span<const std::string_view> LabelValues<RestartLabel>() {
  return kRestarts;
}
template <>
std::span<const std::string_view> LabelValues<StartupLabel>() {
  return kStartups;
}
template <>
std::span<const std::string_view> LabelValues<ReplicaStateLabel>() {
  return kReplicaStates;
}
template <>
std::span<const std::string_view> LabelValues<RouterLimitLabel>() {
  return kRouterLimits;
}
template <>
std::span<const std::string_view> LabelValues<RetryLabel>() {
  return kRetries;
}
template <>
std::span<const std::string_view> LabelValues<SlowReaderLabel>() {
  return kSlowReaders;
}

std::span<const std::string_view> CodeLabelValues() { return kCodes; }

std::span<const std::string_view> ReasonLabelValues() {
  static const std::vector<std::string_view> values = [] {
    std::vector<std::string_view> names = {"none"};
    for (const ErrorReasonRow& row : ErrorReasons()) names.push_back(row.name);
    return names;
  }();
  return values;
}

}  // namespace phi::service
