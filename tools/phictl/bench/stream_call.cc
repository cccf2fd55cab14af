#include "tools/phictl/bench/stream_call.h"

#include "service/api/error.h"
#include "service/api/finish_reason.h"
#include "service/api/grpc_status.h"
#include "tools/phictl/bench/load_clock.h"
#include "tools/phictl/bench/load_generator.h"

namespace phi::phictl {

using Ending = Outcome::Ending;

StreamCall::StreamCall(LoadGenerator& owner,
                       size_t lane,
                       const PlannedRequest& planned,
                       absl::Time due)
    : owner_(owner), lane_(lane), planned_(planned) {
  outcome_.due = due;
}

void StreamCall::Start(phi::v1::TextGeneration::Stub& stub,
                       std::unique_ptr<grpc::ClientContext> context,
                       const std::vector<uint32_t>& prompt) {
  context_ = std::move(context);
  request_.mutable_token_ids()->mutable_ids()->Add(prompt.begin(), prompt.end());
  request_.mutable_parameters()->set_max_new_tokens(planned_.output_tokens);
  request_.mutable_parameters()->set_ignore_eos(true);
  outcome_.sent = LoadNow();
  stub.async()->GenerateStream(context_.get(), &request_, this);
  StartRead(&message_);
  StartCall();
  if (planned_.cancel_after_tokens == 0U) Cancel();
}

void StreamCall::Cancel() {
  cancelled_ = true;
  context_->TryCancel();
}

void StreamCall::OnReadDone(bool ok) {
  if (!ok) return;
  const absl::Time now = LoadNow();
  const auto num_tokens = static_cast<uint32_t>(message_.token_ids_size());
  if (num_tokens > 0 || !outcome_.first_token.has_value()) {
    std::optional<absl::Duration> gap;
    if (outcome_.first_token.has_value()) {
      gap = now - outcome_.last_token;
    } else {
      outcome_.first_token = now;  // the first message says that there is a token
    }
    outcome_.last_token = now;
    outcome_.num_tokens += num_tokens;
    owner_.recorder_.OnTokens(outcome_.due, now, num_tokens, gap);
  }
  if (message_.has_finish()) finish_ = message_.finish().reason();
  if (planned_.cancel_after_tokens.has_value() && !cancelled_ &&
      outcome_.num_tokens >= *planned_.cancel_after_tokens) {
    Cancel();
  }
  StartRead(&message_);
}

void StreamCall::OnDone(const grpc::Status& status) {
  outcome_.end = LoadNow();
  if (status.ok() && finish_ == phi::v1::FINISH_REASON_MAX_NEW_TOKENS) {
    outcome_.ending = Ending::kAnswered;
  } else if (cancelled_ && status.error_code() == grpc::StatusCode::CANCELLED) {
    outcome_.ending = Ending::kCancelled;
  } else {
    outcome_.ending = Ending::kFailed;
    const absl::Status failure = service::FromGrpcStatus(status);
    outcome_.code = absl::StatusCodeToString(failure.code());
    const auto details = service::GetErrorDetails(failure);
    if (status.ok()) {  // a shorter answer than asked for
      outcome_.reason = service::FinishReasonName(finish_);
    } else if (details.has_value()) {
      outcome_.reason = service::ErrorReasonInfo(details->reason).name;
    }
  }
  owner_.recorder_.OnEnd(outcome_);
  owner_.OnCallEnd(this, lane_);
  delete this;
}

}  // namespace phi::phictl
