#include "service/worker/token_stream_call.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <utility>

#include "absl/time/time.h"
#include "kernels/base/status_macros.h"
#include "service/api/error.h"
#include "service/api/generation_parameters.h"
#include "service/api/grpc_status.h"

namespace phi::service {
namespace {

// Keeps a message far below what a client accepts by default, 20 log-probabilities a token
// included.
constexpr size_t kTokensPerMessage = 256;
// Longer limits are the same as none, and sums of times cannot overflow.
constexpr auto kLongestWait = std::chrono::hours(24 * 365);

std::atomic<uint64_t> next_request_id{1};

SteadyTime After(SteadyTime now, std::chrono::nanoseconds wait) {
  return wait >= kLongestWait ? SteadyTime::max()
                              : now + std::chrono::duration_cast<SteadyDuration>(wait);
}

SteadyTime CallDeadline(const grpc::CallbackServerContext& context, SteadyTime now) {
  const auto deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return SteadyTime::max();
  return After(now, deadline - std::chrono::system_clock::now());
}

// Text is the router's: what needs it cannot be carried out here.
absl::Status RefuseRouterFields(const phi::v1::GenerationParameters& parameters) {
  const auto refuse = [](std::string_view field) {
    return MakeFieldError(ErrorReason::kUnsupportedField,
                          field,
                          "this is the router's own; workers know tokens only");
  };
  if (parameters.stop_size() > 0) return refuse("parameters.stop");
  if (parameters.stop_conditions_size() > 0) return refuse("parameters.stop_conditions");
  if (parameters.has_truncate_prompt()) return refuse("parameters.truncate_prompt");
  return absl::OkStatus();
}

shard::SamplingParams ToSampling(const GenerationParameters& parameters) {
  shard::SamplingParams sampling;
  sampling.temperature = parameters.temperature;
  sampling.top_k = parameters.top_k;
  sampling.top_p = parameters.top_p;
  sampling.min_p = parameters.min_p;
  sampling.seed = parameters.seed.value_or(0);
  sampling.want_logprobs = parameters.logprobs.has_value();
  sampling.num_top_logprobs = parameters.logprobs.value_or(0);
  return sampling;
}

phi::v1::FinishReason ToProto(FinishReason reason) {
  switch (reason) {
    case FinishReason::kEos:
      return phi::v1::FINISH_REASON_EOS;
    case FinishReason::kStopToken:
      return phi::v1::FINISH_REASON_STOP_TOKEN;
    case FinishReason::kMaxNewTokens:
      return phi::v1::FINISH_REASON_MAX_NEW_TOKENS;
    case FinishReason::kContextLength:
      return phi::v1::FINISH_REASON_CONTEXT_LENGTH;
    case FinishReason::kTimeLimit:
      return phi::v1::FINISH_REASON_TIME_LIMIT;
    case FinishReason::kStopString:
      return phi::v1::FINISH_REASON_STOP_STRING;
  }
  return phi::v1::FINISH_REASON_UNSPECIFIED;
}

void SetDuration(SteadyDuration from, google::protobuf::Duration* to) {
  const int64_t nanos = std::max<int64_t>(0, std::chrono::nanoseconds(from).count());
  to->set_seconds(nanos / 1'000'000'000);
  to->set_nanos(static_cast<int32_t>(nanos % 1'000'000'000));
}

void FillFirstTimes(const RequestTimes& times, phi::worker::v1::Summary* summary) {
  summary->set_cached_prompt_tokens(times.cached_prompt_tokens);
  SetDuration(times.admitted - times.arrival, summary->mutable_queue());
  SetDuration(times.first_token - times.admitted, summary->mutable_prefill());
}

void FillToken(const shard::SampledToken& token,
               bool want_logprobs,
               phi::worker::v1::GeneratedToken* to) {
  to->set_token_id(token.token_id);
  if (!want_logprobs) return;
  to->set_logprob(token.logprob);
  for (const shard::TokenLogprob& candidate : token.top) {
    auto* top = to->add_top();
    top->set_token_id(candidate.token_id);
    top->set_logprob(candidate.logprob);
  }
}

}  // namespace

absl::StatusOr<EngineRequest> ToEngineRequest(const phi::worker::v1::StartGeneration& message,
                                              const SchedulerLimits& limits,
                                              SteadyTime now) {
  PHI_RETURN_IF_ERROR(RefuseRouterFields(message.parameters()));
  PHI_ASSIGN_OR_RETURN(const GenerationParameters parameters,
                       ParseGenerationParameters(message.parameters(),
                                                 {.context_tokens = limits.context_tokens,
                                                  .vocabulary_tokens = limits.vocabulary_tokens}));
  if (parameters.temperature > 0 && !parameters.seed) {
    return MakeFieldError(
        ErrorReason::kFieldOutOfRange, "parameters.seed", "a router always sets it");
  }
  EngineRequest request;
  request.prompt.assign(message.prompt_token_ids().begin(), message.prompt_token_ids().end());
  const size_t room =
      limits.context_tokens - std::min<size_t>(limits.context_tokens, request.prompt.size());
  if (parameters.max_new_tokens) {
    request.max_new_tokens = *parameters.max_new_tokens;
  } else {
    request.context_bounds = room < kDefaultMaxNewTokens;
    request.max_new_tokens = static_cast<uint32_t>(std::min<size_t>(room, kDefaultMaxNewTokens));
  }
  request.min_new_tokens = parameters.min_new_tokens;
  request.sampling = ToSampling(parameters);
  request.stop_token_ids = parameters.stop_token_ids;
  request.ignore_eos = parameters.ignore_eos;
  request.arrival = now;
  if (parameters.time_limit) {
    request.time_limit_at = After(now, absl::ToChronoNanoseconds(*parameters.time_limit));
  }
  return request;
}

TokenStreamCall* TokenStreamCall::Start(grpc::CallbackServerContext* context,
                                        const SchedulerLimits& limits,
                                        StepLoop* loop) {
  // make_shared cannot reach the private constructor.
  std::shared_ptr<TokenStreamCall> call(new TokenStreamCall(context, limits, loop));
  call->self_ = call;
  call->StartRead(&call->request_);
  return call.get();
}

TokenStreamCall::TokenStreamCall(grpc::CallbackServerContext* context,
                                 const SchedulerLimits& limits,
                                 StepLoop* loop)
    : id_(next_request_id.fetch_add(1, std::memory_order_relaxed)),
      arrival_(std::chrono::steady_clock::now()),
      deadline_(CallDeadline(*context, arrival_)),
      limits_(limits),
      loop_(loop) {}

void TokenStreamCall::OnReadDone(bool ok) {
  if (!ok && started()) return;  // the router has nothing more to say
  const absl::Status status =
      ok ? Take(request_) : MakeError(ErrorReason::kMalformedRequest, "a call needs a start");
  if (status.ok()) {
    StartRead(&request_);
  } else if (started()) {
    loop_->Cancel(id_);
  } else {
    OnEnd(RequestEnd{.status = status,
                     .times = {.arrival = arrival_},
                     .ended = std::chrono::steady_clock::now()});
  }
}

absl::Status TokenStreamCall::Take(const phi::worker::v1::GenerateRequest& request) {
  if (request.has_start() && !started()) return Submit(request.start());
  if (request.has_end_sample() && started() && request.end_sample().index() == 0) {
    loop_->Cancel(id_);
    return absl::OkStatus();
  }
  return MakeError(ErrorReason::kMalformedRequest, "a call has one start, then ends of samples");
}

absl::Status TokenStreamCall::Submit(const phi::worker::v1::StartGeneration& start) {
  PHI_ASSIGN_OR_RETURN(EngineRequest request, ToEngineRequest(start, limits_, arrival_));
  request.id = id_;
  request.call_deadline = deadline_;
  want_logprobs_ = start.parameters().has_logprobs();
  PHI_RETURN_IF_ERROR(loop_->Submit(std::move(request), shared_from_this()));
  bool cancelled = false;
  {
    const absl::MutexLock lock(&mutex_);
    started_ = true;
    cancelled = cancelled_;
  }
  if (cancelled) loop_->Cancel(id_);
  return absl::OkStatus();
}

bool TokenStreamCall::started() {
  const absl::MutexLock lock(&mutex_);
  return started_;
}

void TokenStreamCall::OnToken(uint32_t /*sample*/,
                              shard::SampledToken token,
                              const RequestTimes& times) {
  {
    absl::MutexLock lock(&mutex_);
    if (times.latest_token == times.first_token) first_times_ = times;
    pending_.push_back(std::move(token));
  }
  Advance();
}

void TokenStreamCall::OnEnd(const RequestEnd& end) {
  {
    absl::MutexLock lock(&mutex_);
    end_ = end;
  }
  Advance();
}

void TokenStreamCall::FillMessage() {
  message_.Clear();
  const size_t count = std::min(pending_.size(), kTokensPerMessage);
  for (size_t i = 0; i < count; ++i) FillToken(pending_[i], want_logprobs_, message_.add_tokens());
  pending_.erase(pending_.begin(), pending_.begin() + static_cast<int64_t>(count));
  if (first_times_) FillFirstTimes(*first_times_, message_.mutable_summary());
  first_times_.reset();
  if (!end_ || !end_->status.ok() || !pending_.empty()) return;
  message_.set_finish_reason(ToProto(end_->reason));
  SetDuration(end_->ended - end_->times.first_token, message_.mutable_summary()->mutable_decode());
}

void TokenStreamCall::Advance() {
  bool write = false;
  bool finish = false;
  absl::Status status;
  {
    absl::MutexLock lock(&mutex_);
    if (writing_ || finished_) return;
    if (broken_) pending_.clear();
    // An answer's end travels with its last tokens, so it is a message even without one.
    write = !broken_ && (!pending_.empty() || (end_ && end_->status.ok()));
    if (write) FillMessage();
    finish = end_ && pending_.empty() && (!write || end_->status.ok());
    if (finish) status = end_->status;
    writing_ = write;
    finished_ = finish;
  }
  // Outside the lock: gRPC may call back on this very thread.
  if (write && finish) {
    StartWriteAndFinish(&message_, grpc::WriteOptions(), ToGrpcStatus(status));
  } else if (write) {
    StartWrite(&message_);
  } else if (finish) {
    Finish(ToGrpcStatus(status));
  }
}

void TokenStreamCall::OnWriteDone(bool ok) {
  {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    broken_ = broken_ || !ok;
  }
  Advance();
}

void TokenStreamCall::OnCancel() {
  bool started = false;
  {
    const absl::MutexLock lock(&mutex_);
    cancelled_ = true;
    started = started_;
  }
  if (started) loop_->Cancel(id_);
}

void TokenStreamCall::OnDone() {
  // The step loop may still hold it; the last owner deletes.
  std::shared_ptr<TokenStreamCall> self = std::move(self_);
}

}  // namespace phi::service
