#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"
#include "service/access/access_control.h"
#include "service/router/calls/active_calls.h"
#include "service/router/replicas/replica_pool.h"
#include "service/router/request_limits.h"
#include "service/router/served_model.h"
#include "service/router/work_pool.h"
#include "service/telemetry/metric_page.h"

namespace phi::service {

struct CallLimits {
  uint32_t max_inflight_requests = 512;
  absl::Duration max_time_limit = absl::Minutes(10);
  absl::Duration slow_reader_timeout = absl::Seconds(30);
  // What a stream may hold back for a slow reader, in memory; only log-probabilities come near it.
  size_t max_pending_bytes = size_t{1} << 20;
};

// What every call needs; the server owns it all, and it outlives every call.
struct RouterContext {
  const ServedModel& model;
  const CallLimits limits;
  const MetricPage& metrics;
  const AccessControl& access;
  ActiveCalls& calls;
  WorkPool& work;
  ReplicaPool& replicas;

  // The limits of now: a replica may have less context than the model.
  RequestLimits request_limits() const {
    const auto context = static_cast<uint32_t>(model.config.max_positions);
    const uint32_t replicas_context = replicas.context_tokens();
    return {.model = {.context_tokens =
                          replicas_context == 0 ? context : std::min(context, replicas_context),
                      .vocabulary_tokens = model.tokenizer.vocab_size(),
                      .eos_token_id = model.tokenizer.eos_id(),
                      .max_time_limit_seconds = absl::ToDoubleSeconds(limits.max_time_limit)},
            .model_name = model.name};
  }
};

}  // namespace phi::service
