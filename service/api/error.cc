#include "service/api/error.h"

#include <array>
#include <cstddef>

#include "absl/strings/cord.h"
#include "google/rpc/error_details.pb.h"
#include "kernels/base/check.h"

namespace phi::service {
namespace {

using absl::StatusCode;
using enum ErrorReason;

constexpr std::array kRows = {
    ErrorReasonRow{kMalformedRequest,
                   "MALFORMED_REQUEST",
                   StatusCode::kInvalidArgument,
                   "The bytes are not the message that the method takes, or a text is not UTF-8."},
    ErrorReasonRow{
        kUnsupportedField,
        "UNSUPPORTED_FIELD",
        StatusCode::kInvalidArgument,
        "A field, or a value of it, that this version does not know or does not carry out."},
    ErrorReasonRow{kFieldsConflict,
                   "FIELDS_CONFLICT",
                   StatusCode::kInvalidArgument,
                   "Two fields that exclude each other."},
    ErrorReasonRow{
        kFieldOutOfRange,
        "FIELD_OUT_OF_RANGE",
        StatusCode::kInvalidArgument,
        "A value outside the range that GetModelInfo publishes, or not a finite number."},
    ErrorReasonRow{kEmptyPrompt,
                   "EMPTY_PROMPT",
                   StatusCode::kInvalidArgument,
                   "No prompt, or one without a token."},
    ErrorReasonRow{kPromptTooLong,
                   "PROMPT_TOO_LONG",
                   StatusCode::kInvalidArgument,
                   "The prompt alone fills the context or more."},
    ErrorReasonRow{kContextExceeded,
                   "CONTEXT_EXCEEDED",
                   StatusCode::kInvalidArgument,
                   "The prompt and an explicit max_new_tokens do not fit the context together."},
    ErrorReasonRow{kTokenIdOutOfRange,
                   "TOKEN_ID_OUT_OF_RANGE",
                   StatusCode::kInvalidArgument,
                   "A token id that is no real token of the model."},
    ErrorReasonRow{
        kEmptyStop, "EMPTY_STOP", StatusCode::kInvalidArgument, "A stop string without a byte."},
    ErrorReasonRow{kTooManyStops,
                   "TOO_MANY_STOPS",
                   StatusCode::kInvalidArgument,
                   "More stop strings, stop ids or stop conditions than allowed."},
    ErrorReasonRow{kInvalidRequestId,
                   "INVALID_REQUEST_ID",
                   StatusCode::kInvalidArgument,
                   "A request id of more than 128 bytes, or with one that is not printable ASCII."},
    ErrorReasonRow{kAllTokensBanned,
                   "ALL_TOKENS_BANNED",
                   StatusCode::kInvalidArgument,
                   "The parameters leave no token that may be drawn."},
    ErrorReasonRow{
        kResponseTooLarge,
        "RESPONSE_TOO_LARGE",
        StatusCode::kInvalidArgument,
        "Generate could answer more than one message holds; GenerateStream has no such limit."},
    ErrorReasonRow{kModelNotFound,
                   "MODEL_NOT_FOUND",
                   StatusCode::kNotFound,
                   "Another model than the one served."},
    ErrorReasonRow{
        kQueueFull,
        "QUEUE_FULL",
        StatusCode::kResourceExhausted,
        "As many requests are under way or waiting as allowed, in all or for this caller."},
    ErrorReasonRow{kTokenBudget,
                   "TOKEN_BUDGET",
                   StatusCode::kResourceExhausted,
                   "As many tokens are waiting as allowed."},
    ErrorReasonRow{kKvCapacity,
                   "KV_CAPACITY",
                   StatusCode::kResourceExhausted,
                   "The KV cache cannot hold the request."},
    ErrorReasonRow{
        kCallerLimit,
        "CALLER_LIMIT",
        StatusCode::kResourceExhausted,
        "This caller has as many requests under way, or has spent as many tokens a minute, as "
        "allowed."},
    ErrorReasonRow{kNoReadyReplica,
                   "NO_READY_REPLICA",
                   StatusCode::kUnavailable,
                   "No replica can take requests now."},
    ErrorReasonRow{kDraining,
                   "DRAINING",
                   StatusCode::kUnavailable,
                   "This server ends and takes no new requests."},
    ErrorReasonRow{kDrainTimeout,
                   "DRAIN_TIMEOUT",
                   StatusCode::kUnavailable,
                   "This server had to end before the request was done."},
    ErrorReasonRow{kReplicaLost,
                   "REPLICA_LOST",
                   StatusCode::kUnavailable,
                   "The replica was lost during the request; the whole call may be tried again."},
    ErrorReasonRow{kDeadlineInQueue,
                   "DEADLINE_IN_QUEUE",
                   StatusCode::kDeadlineExceeded,
                   "The deadline or time limit passed before the first token."},
    ErrorReasonRow{kUnauthenticated,
                   "UNAUTHENTICATED",
                   StatusCode::kUnauthenticated,
                   "No token, or one that is not known."},
    ErrorReasonRow{kPermissionDenied,
                   "PERMISSION_DENIED",
                   StatusCode::kPermissionDenied,
                   "The caller may not do this."},
    ErrorReasonRow{kNonfiniteLogits,
                   "NONFINITE_LOGITS",
                   StatusCode::kInternal,
                   "The model computed a number that is not finite."},
    ErrorReasonRow{kInternal, "INTERNAL", StatusCode::kInternal, "A bug of ours."},
};

constexpr bool InEnumOrder() {
  for (size_t i = 0; i < kRows.size(); ++i) {
    if (static_cast<size_t>(kRows[i].reason) != i) return false;
  }
  return kRows.size() == static_cast<size_t>(kInternal) + 1;
}
static_assert(InEnumOrder());

constexpr std::string_view kDomain = "phi-serve";

// Payloads are keyed as google.protobuf.Any names them, so that grpc_status.cc only has to move
// them.
template <typename Message>
std::string TypeUrl() {
  return "type.googleapis.com/" + Message::descriptor()->full_name();
}

template <typename Message>
void SetDetail(absl::Status& status, const Message& message) {
  status.SetPayload(TypeUrl<Message>(), absl::Cord(message.SerializeAsString()));
}

template <typename Message>
std::optional<Message> GetDetail(const absl::Status& status) {
  const auto payload = status.GetPayload(TypeUrl<Message>());
  Message message;
  if (!payload.has_value() || !message.ParseFromString(std::string(*payload))) return std::nullopt;
  return message;
}

}  // namespace

std::span<const ErrorReasonRow> ErrorReasons() { return kRows; }

const ErrorReasonRow& ErrorReasonInfo(ErrorReason reason) {
  const auto index = static_cast<size_t>(reason);
  PHI_CHECK(index < kRows.size(), "reason %zu", index);
  return kRows[index];
}

absl::Status MakeError(ErrorReason reason, std::string_view message) {
  const ErrorReasonRow& row = ErrorReasonInfo(reason);
  absl::Status status(row.code, absl::string_view(message.data(), message.size()));
  google::rpc::ErrorInfo info;
  info.set_reason(std::string(row.name));
  info.set_domain(std::string(kDomain));
  SetDetail(status, info);
  return status;
}

absl::Status MakeFieldError(ErrorReason reason, std::string_view field, std::string_view message) {
  absl::Status status = MakeError(reason, message);
  google::rpc::BadRequest bad_request;
  auto* violation = bad_request.add_field_violations();
  violation->set_field(std::string(field));
  violation->set_description(std::string(message));
  SetDetail(status, bad_request);
  return status;
}

absl::Status MakeRetryError(ErrorReason reason,
                            std::string_view message,
                            absl::Duration retry_after) {
  absl::Status status = MakeError(reason, message);
  google::rpc::RetryInfo retry;
  const int64_t nanos = absl::ToInt64Nanoseconds(retry_after);
  retry.mutable_retry_delay()->set_seconds(nanos / 1'000'000'000);
  retry.mutable_retry_delay()->set_nanos(static_cast<int32_t>(nanos % 1'000'000'000));
  SetDetail(status, retry);
  return status;
}

std::optional<ErrorDetails> GetErrorDetails(const absl::Status& status) {
  const auto info = GetDetail<google::rpc::ErrorInfo>(status);
  if (!info.has_value() || info->domain() != kDomain) return std::nullopt;
  ErrorDetails details;
  bool known = false;
  for (const ErrorReasonRow& row : kRows) {
    if (row.name != info->reason()) continue;
    details.reason = row.reason;
    known = true;
  }
  if (!known) return std::nullopt;
  if (const auto bad_request = GetDetail<google::rpc::BadRequest>(status);
      bad_request.has_value() && bad_request->field_violations_size() > 0) {
    details.field = bad_request->field_violations(0).field();
  }
  if (const auto retry = GetDetail<google::rpc::RetryInfo>(status); retry.has_value()) {
    details.retry_after = absl::Seconds(retry->retry_delay().seconds()) +
                          absl::Nanoseconds(retry->retry_delay().nanos());
  }
  return details;
}

}  // namespace phi::service
