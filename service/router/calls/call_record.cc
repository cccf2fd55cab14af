#include "service/router/calls/call_record.h"

#include <algorithm>

#include "service/api/error.h"
#include "service/api/finish_reason.h"
#include "service/telemetry/logging.h"

namespace phi::service {
namespace {

// CANCELLED and DEADLINE_EXCEEDED may have no reason: they are the caller's own doing.
std::optional<ErrorReason> ReasonOf(const absl::Status& status) {
  if (status.ok()) return std::nullopt;
  if (const auto details = GetErrorDetails(status); details.has_value()) return details->reason;
  const bool callers_own = status.code() == absl::StatusCode::kCancelled ||
                           status.code() == absl::StatusCode::kDeadlineExceeded;
  return callers_own ? std::nullopt : std::optional(ErrorReason::kInternal);
}

bool IsShedding(ErrorReason reason) {
  return ErrorReasonInfo(reason).code == absl::StatusCode::kResourceExhausted;
}

void CountCall(const CallRecord& record,
               const absl::Status& status,
               const MetricPage& metrics,
               SteadyTime now) {
  const auto reason = ReasonOf(status);
  const auto code = static_cast<size_t>(status.code());
  const LabelIndex reason_label =
      reason.has_value() ? LabelIndex(*reason) : LabelIndex(kReasonNone);
  metrics.Get(MetricId::kRouterRequestsTotal, {record.method, code, reason_label}).Add(1);
  metrics.Get(MetricId::kRouterRequestDurationSeconds, {record.method})
      .Observe(Seconds(now - record.arrival));
  metrics.Get(MetricId::kRouterOverheadSeconds, {record.method})
      .Observe(Seconds(record.OwnTimeUntil(now)));
  if (record.first_token.has_value()) {
    metrics.Get(MetricId::kRouterTimeToFirstTokenSeconds, {record.method})
        .Observe(Seconds(*record.first_token - record.arrival));
  }
  if (reason.has_value() && IsShedding(*reason)) {
    metrics.Get(MetricId::kRouterShedTotal, {*reason}).Add(1);
  }
  if (record.slow_reader.has_value()) {
    metrics.Get(MetricId::kRouterSlowReadersTotal, {*record.slow_reader}).Add(1);
  }
}

std::string ReasonForLog(const CallRecord& record, const absl::Status& status) {
  if (record.slow_reader.has_value()) return "slow_reader";
  const auto reason = ReasonOf(status);
  return reason.has_value() ? std::string(ErrorReasonInfo(*reason).name) : "";
}

}  // namespace

void ReportCall(const CallRecord& record, const absl::Status& status, const MetricPage& metrics) {
  const SteadyTime now = SteadyNow();
  CountCall(record, status, metrics, now);
  const double first_token_ms =
      record.first_token.has_value() ? 1e3 * Seconds(*record.first_token - record.arrival) : 0;
  LogInfo("call",
          {{"request_id", record.request_id},
           {"caller", record.caller},
           {"method", LabelValues<MethodLabel>()[static_cast<size_t>(record.method)]},
           {"code", CodeLabelValues()[static_cast<size_t>(status.code())]},
           {"reason", ReasonForLog(record, status)},
           {"finish", FinishReasonName(record.finish)},
           {"prompt_tokens", record.prompt_tokens},
           {"generated_tokens", record.generated_tokens},
           {"first_token_ms", first_token_ms},
           {"total_ms", 1e3 * Seconds(now - record.arrival)},
           {"router_ms", 1e3 * Seconds(record.OwnTimeUntil(now))},
           {"replica", record.replica}});
}

}  // namespace phi::service
