#include "service/router/dispatcher.h"

#include <tuple>

#include "service/api/error.h"

namespace phi::service {
namespace {

// gRPC's own codes for a stream that broke: the connection went, or the peer died in mid-stream. A
// replica never sends them without a reason of ours.
bool IsBrokenStream(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kAborted:
      return true;
    default:
      return false;
  }
}

}  // namespace

std::optional<size_t> ChooseReplica(std::span<const ReplicaLoad> replicas,
                                    const RequestCost& cost,
                                    std::optional<size_t> excluded,
                                    size_t rotation) {
  const auto rank = [&](size_t i) {
    return std::tuple(replicas[i].outstanding_tokens, replicas[i].queued_tokens);
  };
  std::optional<size_t> best;
  for (size_t step = 0; step < replicas.size(); ++step) {
    const size_t i = (rotation + step) % replicas.size();
    if (!replicas[i].ready || i == excluded || replicas[i].kv_tokens < cost.kv_tokens()) continue;
    if (!best.has_value() || rank(i) < rank(*best)) best = i;
  }
  return best;
}

std::optional<RetryLabel> RetryReason(const absl::Status& status) {
  const auto details = GetErrorDetails(status);
  if (!details.has_value()) {
    if (status.code() == absl::StatusCode::kUnavailable) return RetryLabel::kUnreachable;
    if (IsBrokenStream(status)) return RetryLabel::kReplicaLost;
    return std::nullopt;
  }
  switch (details->reason) {
    case ErrorReason::kReplicaLost:
    case ErrorReason::kNoReadyReplica:
      return RetryLabel::kReplicaLost;
    case ErrorReason::kDraining:
    case ErrorReason::kDrainTimeout:
      return RetryLabel::kDraining;
    case ErrorReason::kQueueFull:
    case ErrorReason::kTokenBudget:
    case ErrorReason::kKvCapacity:
      return RetryLabel::kFull;
    default:
      return std::nullopt;
  }
}

absl::Status ReplicaErrorForCaller(const absl::Status& status) {
  if (GetErrorDetails(status).has_value()) return status;
  if (IsBrokenStream(status)) {
    return MakeRetryError(ErrorReason::kReplicaLost, "the replica was lost", absl::Seconds(1));
  }
  return MakeError(ErrorReason::kInternal, "the replica answered with an internal error");
}

}  // namespace phi::service
