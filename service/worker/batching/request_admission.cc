#include "service/worker/batching/request_admission.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "kernels/backend.h"
#include "kernels/base/status_macros.h"
#include "service/api/error.h"
#include "service/api/fair_share.h"
#include "shard/step_plan.h"

namespace phi::service {
namespace {

// A hint to the caller: seats come free at the pace of whole answers, not of steps.
constexpr absl::Duration kRetryAfter = absl::Seconds(1);

absl::Status CheckRequest(const EngineRequest& request, const SchedulerLimits& limits) {
  if (request.prompt.empty()) return MakeError(ErrorReason::kEmptyPrompt, "the prompt is empty");
  if (request.prompt.size() >= limits.context_tokens) {
    return MakeError(
        ErrorReason::kPromptTooLong,
        absl::StrFormat(
            "the prompt has %u tokens; with one new token the context of %u is exceeded",
            request.prompt.size(),
            limits.context_tokens));
  }
  if (request.max_new_tokens == 0) {
    return MakeFieldError(
        ErrorReason::kFieldOutOfRange, "parameters.max_new_tokens", "must be at least 1");
  }
  if (request.max_new_tokens > limits.context_tokens - request.prompt.size()) {
    return MakeFieldError(
        ErrorReason::kContextExceeded,
        "parameters.max_new_tokens",
        absl::StrFormat("%u prompt tokens and %u new ones exceed the context of %u",
                        request.prompt.size(),
                        request.max_new_tokens,
                        limits.context_tokens));
  }
  if (request.num_samples < 1 || request.num_samples > shard::kMaxDraws) {
    return MakeFieldError(ErrorReason::kFieldOutOfRange,
                          "parameters.n",
                          absl::StrFormat("takes 1 to %u", shard::kMaxDraws));
  }
  const auto out_of_range = [&](uint32_t id) { return id >= limits.vocabulary_tokens; };
  if (std::any_of(request.prompt.begin(), request.prompt.end(), out_of_range)) {
    return MakeFieldError(ErrorReason::kTokenIdOutOfRange,
                          "prompt",
                          absl::StrFormat("token ids are below %u", limits.vocabulary_tokens));
  }
  if (std::any_of(request.stop_token_ids.begin(), request.stop_token_ids.end(), out_of_range)) {
    return MakeFieldError(ErrorReason::kTokenIdOutOfRange,
                          "parameters.stop_token_ids",
                          absl::StrFormat("token ids are below %u", limits.vocabulary_tokens));
  }
  if (BlocksNeeded(request) > limits.num_kv_blocks) {
    return MakeError(
        ErrorReason::kKvCapacity,
        absl::StrFormat("%u tokens do not fit the KV cache of %u",
                        request.prompt.size() + request.max_new_tokens,
                        limits.num_kv_blocks * static_cast<uint32_t>(kernels::kKvBlockTokens)));
  }
  return absl::OkStatus();
}

}  // namespace

uint32_t QueuedRequests(const SchedulerLimits& limits, const Occupancy& occupancy) {
  const uint32_t seats =
      limits.max_sequences - std::min(limits.max_sequences, occupancy.running_sequences);
  return occupancy.waiting_requests - std::min(seats, occupancy.waiting_requests);
}

uint32_t BlocksFor(uint64_t num_tokens) {
  return static_cast<uint32_t>(kernels::NumKvBlocks(num_tokens));
}

uint32_t BlocksNeeded(const EngineRequest& request) {
  return BlocksFor(uint64_t{request.prompt.size()} + request.max_new_tokens - 1);
}

absl::Status CheckAdmission(const EngineRequest& request,
                            const SchedulerLimits& limits,
                            const Occupancy& occupancy,
                            const Waiting& own) {
  PHI_RETURN_IF_ERROR(CheckRequest(request, limits));
  Occupancy with_it = occupancy;
  ++with_it.waiting_requests;
  if (QueuedRequests(limits, with_it) == 0) return absl::OkStatus();  // it starts at once
  const uint32_t queued = QueuedRequests(limits, occupancy);
  if (queued >= limits.max_queued_requests) {
    return MakeRetryError(
        ErrorReason::kQueueFull, "the queue holds as many requests as it may", kRetryAfter);
  }
  // A prompt is let in while nothing waits, however long: it could not be served at all otherwise.
  if (occupancy.waiting_tokens > 0 &&
      occupancy.waiting_tokens + request.prompt.size() > limits.max_queued_tokens) {
    return MakeRetryError(
        ErrorReason::kTokenBudget, "the queue holds as many prompt tokens as it may", kRetryAfter);
  }
  if (!HasShareLeft({.own = std::min(own.requests, queued),
                     .all = queued,
                     .places = limits.max_queued_requests})) {
    return MakeRetryError(
        ErrorReason::kQueueFull, "this caller's share of the queue is taken", kRetryAfter);
  }
  if (!HasShareLeft(
          {.own = own.tokens, .all = occupancy.waiting_tokens, .places = limits.max_queued_tokens},
          request.prompt.size())) {
    return MakeRetryError(ErrorReason::kTokenBudget,
                          "this caller's share of the queue's tokens is taken",
                          kRetryAfter);
  }
  return absl::OkStatus();
}

}  // namespace phi::service
