#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"

// Every error that a caller can see, by reason: the only list of them (docs/api.md is written from
// it).
namespace phi::service {

enum class ErrorReason {
  // INVALID_ARGUMENT: wrong whatever the state.
  kMalformedRequest,
  kUnsupportedField,
  kFieldsConflict,
  kFieldOutOfRange,
  kEmptyPrompt,
  kPromptTooLong,
  kContextExceeded,
  kTokenIdOutOfRange,
  kEmptyStop,
  kTooManyStops,
  kInvalidRequestId,
  kAllTokensBanned,
  kResponseTooLarge,
  // NOT_FOUND
  kModelNotFound,
  // RESOURCE_EXHAUSTED: full, try later.
  kQueueFull,
  kTokenBudget,
  kKvCapacity,
  kCallerLimit,
  // UNAVAILABLE: the whole call may be tried again.
  kNoReadyReplica,
  kDraining,
  kDrainTimeout,
  kReplicaLost,
  // DEADLINE_EXCEEDED
  kDeadlineInQueue,
  kUnauthenticated,
  kPermissionDenied,
  // INTERNAL: our bug.
  kNonfiniteLogits,
  kInternal,
};

struct ErrorReasonRow {
  ErrorReason reason;
  std::string_view name;  // as sent: "FIELD_OUT_OF_RANGE"
  absl::StatusCode code;
  std::string_view meaning;  // one sentence for docs/api.md
};

// All rows, in the enum's order.
std::span<const ErrorReasonRow> ErrorReasons();
const ErrorReasonRow& ErrorReasonInfo(ErrorReason reason);

// What travels with an error beside code and message. Kept as payloads of the absl::Status.
struct ErrorDetails {
  ErrorReason reason = ErrorReason::kInternal;
  std::string field;                          // path, as "parameters.top_p"; empty: none
  std::optional<absl::Duration> retry_after;  // RetryInfo and grpc-retry-pushback-ms
};

// `message` comes from a fixed list in our sources: it never holds a prompt, a file path or an
// address.
absl::Status MakeError(ErrorReason reason, std::string_view message);
absl::Status MakeFieldError(ErrorReason reason, std::string_view field, std::string_view message);
absl::Status MakeRetryError(ErrorReason reason,
                            std::string_view message,
                            absl::Duration retry_after);

// Nothing for a Status that none of the above made (it is then kInternal to a caller, or
// CANCELLED/DEADLINE_EXCEEDED as is).
std::optional<ErrorDetails> GetErrorDetails(const absl::Status& status);

}  // namespace phi::service
