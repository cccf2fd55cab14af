#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "service/worker/batching/waiting_queue.h"
#include "service/worker/engine_request.h"

namespace phi::service {

struct SchedulerLimits {
  uint32_t context_tokens = 0;
  uint32_t vocabulary_tokens = 0;  // real ids are below it
  uint32_t eos_token_id = 0;
  uint32_t max_sequences = 0;    // samples that run at once
  uint32_t max_step_tokens = 0;  // >= max_sequences
  uint32_t num_kv_blocks = 0;
  uint32_t max_queued_requests = 0;
  uint32_t max_queued_tokens = 0;  // prompt tokens
  bool prefix_cache = true;        // full KV blocks of equal content are shared
};

// What the scheduler holds; the queue is refused by it (I6, I7).
struct Occupancy {
  uint32_t waiting_requests = 0;
  uint32_t waiting_tokens = 0;     // of their prompts
  uint32_t running_requests = 0;   // admitted and not ended, preempted ones too
  uint32_t running_sequences = 0;  // their samples, each of which needs a seat
};

// Those that wait beyond the seats that are free: the queue, whose places are limited.
uint32_t QueuedRequests(const SchedulerLimits& limits, const Occupancy& occupancy);

// KV blocks of that many tokens.
uint32_t BlocksFor(uint64_t num_tokens);

// KV blocks that hold one sample to its end: of prompt + max_new_tokens - 1 tokens, for the last is
// never an input. More samples need no more: those that do not fit beside it wait for their turn.
uint32_t BlocksNeeded(const EngineRequest& request);

// Whether a request may join a scheduler so occupied, its caller's `own` part of what waits
// included: INVALID_ARGUMENT for one that is wrong in itself, KV_CAPACITY for one that could never
// run, QUEUE_FULL or TOKEN_BUDGET for one that cannot now, or whose caller has its share
// (service/api/fair_share.h) of the queue's places or tokens. Those that can start at once do not
// count as queued. O(stop_token_ids + prompt).
absl::Status CheckAdmission(const EngineRequest& request,
                            const SchedulerLimits& limits,
                            const Occupancy& occupancy,
                            const Waiting& own);

}  // namespace phi::service
