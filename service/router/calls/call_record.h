#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "phi/v1/generation.pb.h"
#include "service/api/steady_clock.h"
#include "service/telemetry/metric_page.h"

namespace phi::service {

// What is told of one call at its end, in one log line and in the metrics. Never a text.
struct CallRecord {
  MethodLabel method = MethodLabel::kOther;
  std::string request_id;
  std::string caller;  // its token's name; empty where no token is asked for
  SteadyTime arrival;
  SteadyDuration own_time{};                // the router's, waits excluded
  std::optional<SteadyTime> working_since;  // own time that is not in it yet
  std::optional<SteadyTime> first_token;
  uint32_t prompt_tokens = 0;
  uint32_t generated_tokens = 0;
  phi::v1::FinishReason finish = phi::v1::FINISH_REASON_UNSPECIFIED;
  std::string replica;  // the last one tried
  std::optional<SlowReaderLabel> slow_reader;

  SteadyDuration OwnTimeUntil(SteadyTime now) const {
    return own_time + (working_since.has_value() ? now - *working_since : SteadyDuration::zero());
  }
};

// `status`: what the caller was told.
void ReportCall(const CallRecord& record, const absl::Status& status, const MetricPage& metrics);

}  // namespace phi::service
