#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "absl/status/status.h"
#include "service/router/replicas/replica_load.h"
#include "service/telemetry/metric_labels.h"

// Where a call goes, and what a replica's error means for it. Pure.
namespace phi::service {

// The ready replica with the fewest outstanding tokens of this router, then the fewest tokens
// waiting there, then in turn from `rotation` on. Replicas whose KV cache is smaller than the
// request are left out, and so is `excluded`. Nothing when none is left.
std::optional<size_t> ChooseReplica(std::span<const ReplicaLoad> replicas,
                                    const RequestCost& cost,
                                    std::optional<size_t> excluded,
                                    size_t rotation);

// Why a call that has no token yet is tried once more on another replica; nothing when another
// would answer the same. `status`: FromGrpcStatus of what ended the replica's stream.
std::optional<RetryLabel> RetryReason(const absl::Status& status);

// What the caller is told of the same status. Reasons of ours are passed on; a broken stream is
// REPLICA_LOST, whatever gRPC calls it; anything else is INTERNAL.
absl::Status ReplicaErrorForCaller(const absl::Status& status);

}  // namespace phi::service
