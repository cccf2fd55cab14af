#include "service/router/admission.h"

#include <algorithm>

#include "service/api/error.h"
#include "service/api/fair_share.h"

namespace phi::service {
namespace {

constexpr absl::Duration kRetryWhenFull = absl::Seconds(1);
constexpr absl::Duration kRetryWhenNotReady = absl::Seconds(2);

// What a replica pushed is some milliseconds old, in which an overload fills its queue many times
// over; what this router sent there it knows itself. A call too many would be refused by the
// replica late, or wait unseen for a stream of the connection.
bool QueueHasRoom(const ReplicaLoad& replica) {
  return replica.queued_requests < replica.max_queued_requests &&
         replica.outstanding_requests < replica.max_requests;
}

// A prompt is let in while nothing waits, however long: it could not be served at all otherwise.
bool TokensHaveRoom(const ReplicaLoad& replica, const RequestCost& cost) {
  return replica.queued_tokens == 0 ||
         uint64_t{replica.queued_tokens} + cost.prompt_tokens <= replica.max_queued_tokens;
}

// Those beside the replicas' seats, in which a request does not wait.
Taken PlacesToWait(const RouterLoad& router, std::span<const ReplicaLoad> replicas) {
  uint64_t seats = 0;
  uint64_t places = 0;
  for (const ReplicaLoad& replica : replicas) {
    if (!replica.ready) continue;
    seats += replica.max_requests - replica.max_queued_requests;
    places += replica.max_requests;
  }
  places = std::min<uint64_t>(places, router.max_inflight_requests);
  const auto beyond_seats = [seats](uint64_t count) { return count - std::min(seats, count); };
  const uint64_t waiting = beyond_seats(router.inflight_requests);
  return {.own = std::min<uint64_t>(router.inflight_of_caller, waiting),
          .all = waiting,
          .places = beyond_seats(places)};
}

absl::Status NoReadyReplica() {
  return MakeRetryError(ErrorReason::kNoReadyReplica, "no replica is ready", kRetryWhenNotReady);
}

}  // namespace

absl::Status AdmitCall(const RouterLoad& router, std::span<const ReplicaLoad> replicas) {
  if (router.draining) {
    return MakeRetryError(ErrorReason::kDraining, "this server ends", kRetryWhenFull);
  }
  if (router.inflight_requests >= router.max_inflight_requests) {
    return MakeRetryError(
        ErrorReason::kQueueFull, "too many requests are under way", kRetryWhenFull);
  }
  bool any_ready = false;
  bool any_room = false;
  for (const ReplicaLoad& replica : replicas) {
    any_ready |= replica.ready;
    any_room |= replica.ready && QueueHasRoom(replica);
  }
  if (!any_ready) return NoReadyReplica();
  if (!any_room) {
    return MakeRetryError(ErrorReason::kQueueFull, "every replica's queue is full", kRetryWhenFull);
  }
  if (!HasShareLeft(PlacesToWait(router, replicas))) {
    return MakeRetryError(
        ErrorReason::kQueueFull, "this caller's share of the places is taken", kRetryWhenFull);
  }
  return absl::OkStatus();
}

absl::Status AdmitCost(const RequestCost& cost, std::span<const ReplicaLoad> replicas) {
  bool any_ready = false;
  bool any_fits = false;
  bool any_room = false;
  for (const ReplicaLoad& replica : replicas) {
    const bool fits = replica.ready && cost.kv_tokens() <= replica.kv_tokens;
    any_ready |= replica.ready;
    any_fits |= fits;
    any_room |= fits && TokensHaveRoom(replica, cost);
  }
  if (!any_ready) return NoReadyReplica();
  if (!any_fits) {
    return MakeError(ErrorReason::kKvCapacity,
                     "the KV cache of every replica is smaller than the request");
  }
  if (any_room) return absl::OkStatus();
  return MakeRetryError(ErrorReason::kTokenBudget, "too many tokens are waiting", kRetryWhenFull);
}

}  // namespace phi::service
