#include "service/worker/token_stream_call.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <utility>

#include "kernels/base/failpoint.h"
#include "kernels/base/status_macros.h"
#include "service/api/error.h"
#include "service/api/grpc_deadline.h"
#include "service/api/grpc_status.h"
#include "service/worker/start_message.h"

namespace phi::service {
namespace {

// Keeps a message far below what a client accepts by default, 20 log-probabilities a token
// included.
constexpr size_t kTokensPerMessage = 256;
std::atomic<uint64_t> next_request_id{1};

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
    case FinishReason::kStopCondition:
      return phi::v1::FINISH_REASON_STOP_CONDITION;
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
      arrival_(SteadyNow()),
      deadline_(DeadlineOf(*context, arrival_)),
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
    OnEnd(RequestEnd{.status = status, .times = {.arrival = arrival_}, .ended = SteadyNow()});
  }
}

absl::Status TokenStreamCall::Take(const phi::worker::v1::GenerateRequest& request) {
  if (request.has_start() && !started()) return Submit(request.start());
  const phi::worker::v1::EndSample& ended = request.end_sample();
  if (request.has_end_sample() && started() && NoteEndAsked(ended.index())) {
    const bool by_condition = ended.finish_reason() == phi::v1::FINISH_REASON_STOP_CONDITION;
    loop_->EndSample(id_,
                     ended.index(),
                     by_condition ? FinishReason::kStopCondition : FinishReason::kStopString);
    return absl::OkStatus();
  }
  return MakeError(ErrorReason::kMalformedRequest, "a call has one start, then one end a sample");
}

absl::Status TokenStreamCall::Submit(const phi::worker::v1::StartGeneration& start) {
  PHI_ASSIGN_OR_RETURN(EngineRequest request, ToEngineRequest(start, limits_, arrival_));
  request.id = id_;
  request.call_deadline = deadline_;
  want_logprobs_ = request.sampling.want_logprobs;
  num_samples_ = request.num_samples;
  {
    const absl::MutexLock lock(&mutex_);
    samples_.resize(num_samples_);
  }
  PHI_RETURN_IF_ERROR(PHI_FAILPOINT("worker.before_submit"));
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

bool TokenStreamCall::NoteEndAsked(uint32_t sample) {
  const absl::MutexLock lock(&mutex_);
  return sample < num_samples_ && !std::exchange(samples_[sample].end_asked, true);
}

bool TokenStreamCall::started() {
  const absl::MutexLock lock(&mutex_);
  return started_;
}

void TokenStreamCall::OnToken(uint32_t sample,
                              shard::SampledToken token,
                              const RequestTimes& times) {
  {
    const absl::MutexLock lock(&mutex_);
    if (!has_token_) first_times_ = times;
    has_token_ = true;
    samples_[sample].pending.push_back(std::move(token));
  }
  Advance();
}

// The request's end or another sample's token comes next, and sends it.
void TokenStreamCall::OnSampleEnd(uint32_t sample, FinishReason reason) {
  const absl::MutexLock lock(&mutex_);
  samples_[sample].reason = reason;
  ++num_ended_;
}

void TokenStreamCall::OnEnd(const RequestEnd& end) {
  {
    const absl::MutexLock lock(&mutex_);
    end_ = end;
  }
  Advance();
}

bool TokenStreamCall::HasToSend(const Sample& sample) const {
  return !sample.pending.empty() || (sample.reason && MaySendReason());
}

TokenStreamCall::Sample* TokenStreamCall::NextToSend() {
  for (size_t i = 0; i < samples_.size(); ++i) {
    Sample& sample = samples_[(turn_ + i) % samples_.size()];
    if (!HasToSend(sample)) continue;
    turn_ = (turn_ + i + 1) % samples_.size();
    return &sample;
  }
  return nullptr;
}

void TokenStreamCall::FillMessage(Sample& sample) {
  message_.Clear();
  message_.set_index(static_cast<uint32_t>(&sample - samples_.data()));
  const size_t count = std::min(sample.pending.size(), kTokensPerMessage);
  for (size_t i = 0; i < count; ++i)
    FillToken(sample.pending[i], want_logprobs_, message_.add_tokens());
  sample.pending.erase(sample.pending.begin(),
                       sample.pending.begin() + static_cast<int64_t>(count));
  if (first_times_) FillFirstTimes(*first_times_, message_.mutable_summary());
  first_times_.reset();
  if (!sample.reason || !sample.pending.empty() || !MaySendReason()) return;
  message_.set_finish_reason(ToProto(*sample.reason));
  sample.reason.reset();
  if (!end_) return;
  SetDuration(end_->ended - end_->times.first_token, message_.mutable_summary()->mutable_decode());
}

void TokenStreamCall::Advance() {
  bool write = false;
  bool finish = false;
  absl::Status status;
  {
    const absl::MutexLock lock(&mutex_);
    if (writing_ || finished_) return;
    if (broken_) {
      for (Sample& sample : samples_) sample = {.pending = {}, .reason = {}, .end_asked = true};
    }
    if (Sample* sample = NextToSend(); sample != nullptr) {
      FillMessage(*sample);
      write = true;
    }
    const auto has_to_send = [this](const Sample& sample)
                                 ABSL_NO_THREAD_SAFETY_ANALYSIS { return HasToSend(sample); };
    finish = end_ && std::none_of(samples_.begin(), samples_.end(), has_to_send) &&
             (!write || end_->status.ok());
    if (finish) status = end_->status;
    writing_ = write;
    finished_ = finish;
  }
  // Outside the lock, which the callbacks of what is started here take.
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
    const absl::MutexLock lock(&mutex_);
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
