#pragma once

#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "service/router/replicas/replica_load.h"

// Whether a call may go on. Pure. The one waiting queue is in the leader: the router only keeps
// caps, and refuses early what no replica would take (I6, I7). Every refusal but KV_CAPACITY
// says when to come back.
namespace phi::service {

struct RouterLoad {
  uint32_t inflight_requests = 0;   // without the call in question
  uint32_t inflight_of_caller = 0;  // of those, its caller's
  uint32_t max_inflight_requests = 0;
  bool draining = false;
};

// Before the prompt is tokenized. DRAINING, NO_READY_REPLICA, QUEUE_FULL: of all, or for a caller
// who has its share (service/api/fair_share.h) of the places to wait.
absl::Status AdmitCall(const RouterLoad& router, std::span<const ReplicaLoad> replicas);

// Once the prompt's length is known. KV_CAPACITY when no ready replica could ever hold the request,
// TOKEN_BUDGET when every one that could has too many tokens waiting; NO_READY_REPLICA.
absl::Status AdmitCost(const RequestCost& cost, std::span<const ReplicaLoad> replicas);

}  // namespace phi::service
