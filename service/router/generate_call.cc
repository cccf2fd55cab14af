#include "service/router/generate_call.h"

#include <algorithm>
#include <utility>

#include "kernels/base/failpoint.h"
#include "kernels/base/status_macros.h"
#include "service/api/error.h"
#include "service/router/admission.h"
#include "service/router/calls/grpc_messages.h"
#include "service/router/dispatcher.h"
#include "service/telemetry/logging.h"

namespace phi::service {
namespace {

// A replica ends a request at its time limit by itself; the router steps in only for one that does
// not.
constexpr auto kTimeLimitGrace = std::chrono::seconds(1);
// gRPC's deadlines are of its own clock and of whole milliseconds.
constexpr auto kDeadlineError = std::chrono::milliseconds(5);

google::protobuf::Duration ToProto(SteadyDuration duration) {
  const int64_t nanos =
      std::chrono::nanoseconds(std::max(duration, SteadyDuration::zero())).count();
  google::protobuf::Duration result;
  result.set_seconds(nanos / 1'000'000'000);
  result.set_nanos(static_cast<int32_t>(nanos % 1'000'000'000));
  return result;
}

absl::Status TimeLimitBeforeFirstToken() {
  return MakeError(ErrorReason::kDeadlineInQueue, "the time limit passed before the first token");
}

}  // namespace

// Adds the scope's time to what the router spent on the call itself.
class GenerateCall::OwnTime {
 public:
  explicit OwnTime(CallRecord& record) : record_(record), start_(SteadyNow()) {
    record_.working_since = start_;
  }
  ~OwnTime() {
    record_.own_time += SteadyNow() - start_;
    record_.working_since.reset();
  }
  OwnTime(const OwnTime&) = delete;
  OwnTime& operator=(const OwnTime&) = delete;

 private:
  CallRecord& record_;
  const SteadyTime start_;
};

GenerateCall::GenerateCall(RouterContext& context, AnswerSink* sink, Origin origin)
    : context_(context), origin_(std::move(origin)), sink_(sink) {
  record_.method = origin_.method;
  record_.arrival = SteadyNow();
  if (origin_.grant.ok()) record_.caller = origin_.grant->name();
}

void GenerateCall::Start(const grpc::ByteBuffer& bytes) {
  const ActiveCalls::Counts before = context_.calls.Add(shared_from_this(), origin_.caller);
  const absl::MutexLock lock(&mutex_);
  const OwnTime own_time(record_);
  absl::Status status = CheckAndAdmit(bytes, before);
  if (status.ok()) status = StartTokenizing();
  if (!status.ok()) EndCall(status);
}

absl::Status GenerateCall::CheckAndAdmit(const grpc::ByteBuffer& bytes,
                                         const ActiveCalls::Counts& before) {
  // A stranger's bytes are not even parsed.
  const absl::Status parsed =
      origin_.grant.ok() ? ParseMessage(bytes, request_) : origin_.grant.status();
  record_.request_id = RequestIdOrNew(parsed.ok() ? request_.request_id() : "");
  sink_->SetRequestId(record_.request_id);
  PHI_RETURN_IF_ERROR(parsed);
  PHI_RETURN_IF_ERROR(CheckRequestId(request_.request_id()));
  PHI_ASSIGN_OR_RETURN(parameters_,
                       CheckRequest(request_, !sink_->streams(), context_.request_limits()));
  PHI_RETURN_IF_ERROR(origin_.grant->CheckTokens());
  seed_ = parameters_.seed.has_value() ? *parameters_.seed : RandomSeed();
  return AdmitCall({.inflight_requests = before.all,
                    .inflight_of_caller = before.of_caller,
                    .max_inflight_requests = context_.limits.max_inflight_requests,
                    .draining = context_.calls.draining()},
                   context_.replicas.Loads());
}

absl::Status GenerateCall::StartTokenizing() {
  if (request_.has_token_ids() && parameters_.stop_conditions.empty()) {
    PHI_ASSIGN_OR_RETURN(Prompt prompt, ReadPrompt());
    return OnPrompt(std::move(prompt));
  }
  if (context_.work.Submit(origin_.caller, [self = shared_from_this()] { self->Tokenize(); }))
    return absl::OkStatus();
  return MakeRetryError(
      ErrorReason::kQueueFull, "too many prompts wait for tokenization", absl::Seconds(1));
}

void GenerateCall::Tokenize() {
  (void)PHI_FAILPOINT("router.tokenizing");
  {
    const absl::MutexLock lock(&mutex_);
    if (over()) return;
    if (SteadyNow() >= TimeLimitAt()) return EndCall(TimeLimitBeforeFirstToken());
  }
  const SteadyTime start = SteadyNow();
  absl::StatusOr<Prompt> prompt = ReadPrompt();
  const absl::MutexLock lock(&mutex_);
  record_.own_time += SteadyNow() - start;
  if (over()) return;
  const OwnTime own_time(record_);
  const absl::Status status = prompt.ok() ? OnPrompt(*std::move(prompt)) : prompt.status();
  if (!status.ok()) EndCall(status);
}

absl::StatusOr<GenerateCall::Prompt> GenerateCall::ReadPrompt() const {
  const Tokenizer& tokenizer = context_.model.tokenizer;
  Prompt prompt;
  if (request_.has_token_ids()) {
    prompt.ids.assign(request_.token_ids().ids().begin(), request_.token_ids().ids().end());
    // Stop conditions compare with the prompt's last lines.
    if (parameters_.stop_conditions.empty()) return prompt;
    PHI_ASSIGN_OR_RETURN(prompt.text, tokenizer.Decode(prompt.ids));
    return prompt;
  }
  // More tokens than the context are wanted only where the prompt's end is kept of them.
  const size_t max_tokens = parameters_.truncate_prompt.has_value()
                                ? kMaxMessageBytes
                                : context_.request_limits().model.context_tokens;
  auto ids = tokenizer.Encode(request_.text(),
                              {.max_tokens = max_tokens, .cancelled = tokenizing_.get_token()});
  if (ids.status().code() == absl::StatusCode::kOutOfRange) return PromptTooLong("text");
  PHI_RETURN_IF_ERROR(ids.status());
  prompt.ids = *std::move(ids);
  prompt.text = request_.text();
  return prompt;
}

absl::Status GenerateCall::OnPrompt(Prompt prompt) {
  prompt_ = std::move(prompt.ids);
  if (parameters_.truncate_prompt.has_value() && prompt_.size() > *parameters_.truncate_prompt) {
    prompt_.erase(prompt_.begin(), prompt_.end() - *parameters_.truncate_prompt);
  }
  const std::string_view field = request_.has_token_ids() ? "token_ids" : "text";
  PHI_ASSIGN_OR_RETURN(
      const TokenBudget budget,
      FitContext(
          prompt_.size(), field, parameters_, context_.request_limits().model.context_tokens));
  bounded_by_context_ = budget.bounded_by_context;
  cost_ = {.prompt_tokens = static_cast<uint32_t>(prompt_.size()),
           .max_new_tokens = budget.max_new_tokens,
           .num_samples = parameters_.n};
  record_.prompt_tokens = cost_.prompt_tokens;
  PHI_RETURN_IF_ERROR(AdmitCost(cost_, context_.replicas.Loads()));
  origin_.grant->Charge(cost_.prompt_tokens);
  answers_.emplace(context_.model.tokenizer, parameters_, prompt.text);
  return Dispatch(nullptr);
}

absl::Status GenerateCall::Dispatch(const Replica* excluded) {
  const SteadyTime now = SteadyNow();
  if (now >= TimeLimitAt()) return TimeLimitBeforeFirstToken();
  PHI_ASSIGN_OR_RETURN(ReplicaLease lease, context_.replicas.Acquire(cost_, excluded));
  record_.replica = lease.address();
  // The caller's own deadline is passed on as it is: the replica stops a margin before it, so that
  // the text so far arrives.
  const SteadyTime deadline = std::min(origin_.deadline, After(TimeLimitAt(), kTimeLimitGrace));
  replica_call_ =
      ReplicaCall::Start(std::move(lease), RequestForReplica(now), deadline, shared_from_this());
  return absl::OkStatus();
}

SteadyTime GenerateCall::TimeLimitAt() const {
  return After(record_.arrival, parameters_.time_limit.value_or(context_.limits.max_time_limit));
}

phi::worker::v1::StartGeneration GenerateCall::RequestForReplica(SteadyTime now) const {
  phi::worker::v1::StartGeneration request;
  request.set_request_id(record_.request_id);
  request.mutable_prompt_token_ids()->Add(prompt_.begin(), prompt_.end());
  request.set_caller(origin_.caller);
  request.set_cache_salt(origin_.cache_salt);
  request.set_bounded_by_context(bounded_by_context_);
  phi::v1::GenerationParameters& parameters = *request.mutable_parameters();
  parameters = request_.parameters();
  parameters.clear_stop();
  parameters.clear_stop_conditions();
  parameters.clear_include_stop();
  parameters.clear_truncate_prompt();
  parameters.set_max_new_tokens(cost_.max_new_tokens);
  parameters.set_seed(seed_);
  if (TimeLimitAt() == SteadyTime::max()) return request;
  *parameters.mutable_time_limit() = ToProto(TimeLimitAt() - now);
  return request;
}

void GenerateCall::OnReplicaMessage(const phi::worker::v1::GenerateResponse& message) {
  const absl::MutexLock lock(&mutex_);
  if (over()) return;
  const OwnTime own_time(record_);
  if (message.has_summary()) replica_summary_.MergeFrom(message.summary());
  if (!record_.first_token.has_value() && !message.tokens().empty()) {
    record_.first_token = SteadyNow();
    if (retry_.has_value()) context_.metrics.Get(MetricId::kRouterFailoversTotal, {*retry_}).Add(1);
  }
  const auto stopped = answers_->Add(message);
  record_.generated_tokens = answers_->generated_tokens();
  if (stopped.ok() && stopped->has_value() && replica_call_ != nullptr)
    replica_call_->EndSample(message.index(), **stopped);
  if (stopped.ok() && !answers_->ended()) {
    WriteOrFinish();
    return;
  }
  replica_ends_ = stopped.ok();
  EndCall(stopped.status());
}

void GenerateCall::OnReplicaEnd(const absl::Status& status) {
  const absl::MutexLock lock(&mutex_);
  const Replica* lost = replica_call_ == nullptr ? nullptr : replica_call_->lease().replica();
  replica_call_ = nullptr;
  if (over()) return;
  const OwnTime own_time(record_);
  // A stream that ends well has said its finish reason, and the call was over with it.
  const absl::Status failure =
      status.ok() ? MakeError(ErrorReason::kReplicaLost, "the replica broke off") : status;
  if (!record_.first_token.has_value() && !retry_.has_value()) {
    retry_ = RetryReason(failure);
    if (retry_.has_value() && Dispatch(lost).ok()) {
      context_.metrics.Get(MetricId::kRouterRetriesTotal, {*retry_}).Add(1);
      return;
    }
  }
  EndCall(ReplicaFailure(failure));
}

absl::Status GenerateCall::ReplicaFailure(const absl::Status& status) {
  const bool is_deadline =
      status.code() == absl::StatusCode::kDeadlineExceeded && !GetErrorDetails(status).has_value();
  if (!is_deadline) return ReplicaErrorForCaller(status);
  if (!record_.first_token.has_value()) {
    return TimeLimitBeforeFirstToken();
  }
  answers_->FinishAll(phi::v1::FINISH_REASON_TIME_LIMIT);
  return absl::OkStatus();
}

void GenerateCall::OnWriteDone(bool ok) {
  const absl::MutexLock lock(&mutex_);
  writing_since_.reset();
  if (finished_) return;
  const OwnTime own_time(record_);
  if (ok) {
    WriteOrFinish();
  } else {
    CutOff(absl::CancelledError("the caller went away"));
  }
}

void GenerateCall::OnCancel() {
  const absl::MutexLock lock(&mutex_);
  if (finished_) return;
  if (origin_.deadline != SteadyTime::max() && SteadyNow() + kDeadlineError >= origin_.deadline) {
    CutOff(absl::DeadlineExceededError("the deadline passed"));
  } else {
    CutOff(absl::CancelledError("the caller went away"));
  }
}

void GenerateCall::Sweep(SteadyTime now) {
  const absl::MutexLock lock(&mutex_);
  if (finished_ || !writing_since_.has_value()) return;
  if (now < After(*writing_since_, context_.limits.slow_reader_timeout)) return;
  record_.slow_reader = SlowReaderLabel::kStalled;
  CutOff(absl::CancelledError("the reader took nothing for too long"));
}

void GenerateCall::Abort(const absl::Status& status) {
  const absl::MutexLock lock(&mutex_);
  if (finished_) return;
  if (writing_since_.has_value()) {
    CutOff(status);
  } else {
    EndCall(status);
  }
}

void GenerateCall::EndCall(const absl::Status& status) {
  if (over()) return;
  ending_ = status;
  StopUpstream();
  WriteOrFinish();
}

void GenerateCall::StopUpstream() {
  tokenizing_.request_stop();
  // One that ends by itself is not cancelled: the replica would count it as such.
  if (replica_call_ != nullptr && !replica_ends_) replica_call_->Cancel();
}

void GenerateCall::CutOff(const absl::Status& status) {
  StopUpstream();
  FinishSink({.status = status, .cut = true});
}

void GenerateCall::WriteOrFinish() {
  if (finished_) return;
  if (writing_since_.has_value()) {
    if (answers_->pending_bytes() <= context_.limits.max_pending_bytes)
      return;  // joined into the next messages
    record_.slow_reader = SlowReaderLabel::kBufferFull;
    CutOff(absl::CancelledError("the reader is too slow"));
    return;
  }
  const size_t num_pending = sink_->streams() && answers_.has_value() ? answers_->num_pending() : 0;
  if (ending_.has_value() && num_pending <= 1) {
    FinishWithWhatIsPending();
  } else if (num_pending > 0) {
    writing_since_ = SteadyNow();
    phi::v1::GenerateStreamResponse message = answers_->TakePending();
    if (!header_sent_) AddHeader(message);
    sink_->Write(message);
  }
}

void GenerateCall::FinishWithWhatIsPending() {
  AnswerSink::End end{.status = *ending_};
  if (sink_->streams() && answers_.has_value() && answers_->num_pending() > 0) {
    end.answers.push_back(answers_->TakePending());
  } else if (!sink_->streams() && end.status.ok()) {
    end.answers = answers_->TakeAll();
  }
  if (!end.answers.empty() && !header_sent_) AddHeader(end.answers.front());
  if (end.status.ok()) {
    *end.answers.back().mutable_summary() = MakeSummary();
    record_.finish = end.answers.back().finish().reason();
  } else if (record_.first_token.has_value()) {
    end.tokens_emitted = record_.generated_tokens;
  }
  FinishSink(end);
}

void GenerateCall::AddHeader(phi::v1::GenerateStreamResponse& first) {
  header_sent_ = true;
  first.mutable_header()->set_request_id(record_.request_id);
  first.mutable_header()->set_seed(seed_);
}

phi::v1::Summary GenerateCall::MakeSummary() const {
  const SteadyTime now = SteadyNow();
  phi::v1::Summary summary;
  phi::v1::Usage& usage = *summary.mutable_usage();
  usage.set_prompt_tokens(cost_.prompt_tokens);
  usage.set_generated_tokens(record_.generated_tokens);
  usage.set_cached_prompt_tokens(replica_summary_.cached_prompt_tokens());
  phi::v1::Timings& timings = *summary.mutable_timings();
  if (replica_summary_.has_queue()) *timings.mutable_queue() = replica_summary_.queue();
  if (replica_summary_.has_prefill()) *timings.mutable_prefill() = replica_summary_.prefill();
  const SteadyTime first_token = record_.first_token.value_or(now);
  *timings.mutable_time_to_first_token() = ToProto(first_token - record_.arrival);
  // A stop string ends the replica's stream before it sums up; what the router saw is then the
  // measure.
  *timings.mutable_decode() =
      replica_summary_.has_decode() ? replica_summary_.decode() : ToProto(now - first_token);
  *timings.mutable_router() = ToProto(record_.OwnTimeUntil(now));
  *timings.mutable_total() = ToProto(now - record_.arrival);
  return summary;
}

void GenerateCall::FinishSink(const AnswerSink::End& end) {
  finished_ = true;
  ReportCall(record_, end.status, context_.metrics);
  // Before the caller hears of it: its next call finds its place free.
  if (origin_.grant.ok()) {
    origin_.grant->Charge(record_.generated_tokens);
    origin_.grant->End();
  }
  sink_->Finish(end);
  context_.calls.Remove(this);
}

}  // namespace phi::service
