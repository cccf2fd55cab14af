#include "service/worker/scheduler.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "kernels/backend.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"
#include "service/api/error.h"

namespace phi::service {
namespace {

// A hint to the caller: seats come free at the pace of whole answers, not of steps.
constexpr absl::Duration kRetryAfter = absl::Seconds(1);

uint32_t BlocksFor(uint32_t num_tokens) {
  constexpr uint32_t kBlock = kernels::kKvBlockTokens;
  return num_tokens / kBlock + (num_tokens % kBlock == 0 ? 0 : 1);
}

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
  if (request.num_samples != 1) {
    return MakeFieldError(
        ErrorReason::kUnsupportedField, "parameters.n", "samples are not shared yet");
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

uint32_t BlocksNeeded(const EngineRequest& request) {
  return BlocksFor(static_cast<uint32_t>(request.prompt.size()) + request.max_new_tokens - 1);
}

absl::Status CheckAdmission(const EngineRequest& request,
                            const SchedulerLimits& limits,
                            const Occupancy& occupancy) {
  PHI_RETURN_IF_ERROR(CheckRequest(request, limits));
  const uint32_t seats =
      limits.max_sequences - std::min(limits.max_sequences, occupancy.running_requests);
  if (occupancy.waiting_requests < seats) return absl::OkStatus();
  if (occupancy.waiting_requests - seats >= limits.max_queued_requests) {
    return MakeRetryError(
        ErrorReason::kQueueFull, "the queue holds as many requests as it may", kRetryAfter);
  }
  if (occupancy.waiting_tokens + request.prompt.size() > limits.max_queued_tokens) {
    return MakeRetryError(
        ErrorReason::kTokenBudget, "the queue holds as many prompt tokens as it may", kRetryAfter);
  }
  return absl::OkStatus();
}

Scheduler::Scheduler(const SchedulerLimits& limits, const ChunkLimits& chunks)
    : limits_(limits), pool_(limits.num_kv_blocks) {
  PHI_CHECK(limits.max_sequences >= 1 && limits.max_step_tokens >= limits.max_sequences,
            "%u sequences, %u tokens a step",
            limits.max_sequences,
            limits.max_step_tokens);
  SetChunkLimits(chunks);
}

void Scheduler::SetChunkLimits(const ChunkLimits& chunks) {
  chunks_.alone = std::clamp(chunks.alone, 1U, limits_.max_step_tokens);
  chunks_.beside_decodes = std::clamp(chunks.beside_decodes, 1U, chunks_.alone);
}

absl::Status Scheduler::Submit(EngineRequest request) {
  PHI_RETURN_IF_ERROR(CheckAdmission(request, limits_, occupancy()));
  waiting_tokens_ += static_cast<uint32_t>(request.prompt.size());
  ++num_submitted_;
  Sequence& sequence = waiting_.emplace_back();
  sequence.times.arrival = request.arrival;
  sequence.request = std::move(request);
  return absl::OkStatus();
}

std::optional<RequestEvent> Scheduler::Cancel(uint64_t request_id, SteadyTime now) {
  const absl::Status cancelled = absl::CancelledError("cancelled by the caller");
  if (Sequence* sequence = FindRunning(request_id)) {
    RequestEvent event = End(*sequence, cancelled, FinishReason::kEos, now);
    DropEnded();
    return event;
  }
  const auto found = std::find_if(waiting_.begin(), waiting_.end(), [&](const Sequence& s) {
    return s.request.id == request_id;
  });
  if (found == waiting_.end()) return std::nullopt;
  RequestEvent event = End(*found, cancelled, FinishReason::kEos, now);
  waiting_.erase(found);
  return event;
}

std::optional<RequestEvent> Scheduler::EndSample(uint64_t request_id,
                                                 uint32_t sample,
                                                 SteadyTime now) {
  Sequence* sequence = sample == 0 ? FindRunning(request_id) : nullptr;
  if (sequence == nullptr) return std::nullopt;
  RequestEvent event = End(*sequence, absl::OkStatus(), FinishReason::kStopString, now);
  event.sample_end.reset();
  DropEnded();
  return event;
}

bool Scheduler::TimeIsUp(const Sequence& sequence, SteadyTime now) const {
  const EngineRequest& request = sequence.request;
  // Written so that an unset deadline, the end of time, cannot overflow.
  return now >= request.time_limit_at || request.call_deadline - now <= deadline_margin_;
}

std::vector<RequestEvent> Scheduler::Expire(SteadyTime now) {
  std::vector<RequestEvent> events;
  const absl::Status late =
      MakeError(ErrorReason::kDeadlineInQueue, "the time was up before the first token");
  for (Sequence& sequence : running_) {
    if (!TimeIsUp(sequence, now)) continue;
    const absl::Status status = sequence.num_generated > 0 ? absl::OkStatus() : late;
    events.push_back(End(sequence, status, FinishReason::kTimeLimit, now));
  }
  DropEnded();
  for (Sequence& sequence : waiting_) {
    if (TimeIsUp(sequence, now))
      events.push_back(End(sequence, late, FinishReason::kTimeLimit, now));
  }
  std::erase_if(waiting_, [](const Sequence& s) { return s.ended; });
  return events;
}

std::vector<RequestEvent> Scheduler::FailWaiting(const absl::Status& status, SteadyTime now) {
  std::vector<RequestEvent> events;
  for (Sequence& sequence : waiting_)
    events.push_back(End(sequence, status, FinishReason::kEos, now));
  waiting_.clear();
  return events;
}

std::vector<RequestEvent> Scheduler::FailAll(const absl::Status& status, SteadyTime now) {
  std::vector<RequestEvent> events;
  for (Sequence& sequence : running_)
    events.push_back(End(sequence, status, FinishReason::kEos, now));
  DropEnded();
  for (RequestEvent& event : FailWaiting(status, now)) events.push_back(std::move(event));
  return events;
}

StepWork Scheduler::Plan(SteadyTime now) {
  StepWork work;
  for (Sequence& sequence : running_) {
    if (!sequence.prefilling()) AddDecode(sequence, work);
  }
  const uint32_t chunk = work.decode_tokens > 0 ? chunks_.beside_decodes : chunks_.alone;
  uint32_t budget = std::min(chunk, limits_.max_step_tokens - work.decode_tokens);
  const auto prefill = [&](Sequence& sequence) {
    const auto remaining =
        static_cast<uint32_t>(sequence.request.prompt.size()) - sequence.num_computed;
    const uint32_t num_tokens = std::min(budget, remaining);
    if (num_tokens > 0) AddPrefill(sequence, num_tokens, work);
    budget -= num_tokens;
  };
  for (Sequence& sequence : running_) {
    if (sequence.prefilling()) prefill(sequence);
  }
  // Strictly the oldest first: a big request that waits for blocks is not overtaken for ever by
  // small ones.
  while (budget > 0 && AdmitOldest(now)) prefill(running_.back());
  return work;
}

bool Scheduler::AdmitOldest(SteadyTime now) {
  if (waiting_.empty() || running_.size() >= limits_.max_sequences) return false;
  Sequence& oldest = waiting_.front();
  auto block_ids = pool_.Acquire(oldest.request.id, BlocksNeeded(oldest.request));
  if (!block_ids) return false;
  waiting_tokens_ -= static_cast<uint32_t>(oldest.request.prompt.size());
  oldest.block_ids = *std::move(block_ids);
  oldest.times.admitted = now;
  running_.push_back(std::move(oldest));
  waiting_.pop_front();
  return true;
}

shard::PlannedSequence Scheduler::PlanRows(const Sequence& sequence, uint32_t num_tokens) const {
  const uint32_t num_blocks = BlocksFor(sequence.num_computed + num_tokens);
  shard::PlannedSequence planned;
  planned.num_tokens = num_tokens;
  planned.first_position = sequence.num_computed;
  planned.block_ids.assign(sequence.block_ids.begin(), sequence.block_ids.begin() + num_blocks);
  planned.num_draws = sequence.num_computed + num_tokens >= sequence.request.prompt.size() ? 1 : 0;
  planned.sampling = sequence.request.sampling;
  planned.sampling.mask_eos = sequence.num_generated < sequence.request.min_new_tokens;
  return planned;
}

void Scheduler::AddDecode(Sequence& sequence, StepWork& work) const {
  work.plan.token_ids.push_back(sequence.latest_token);
  work.plan.sequences.push_back(PlanRows(sequence, 1));
  work.request_ids.push_back(sequence.request.id);
  ++work.decode_tokens;
}

void Scheduler::AddPrefill(Sequence& sequence, uint32_t num_tokens, StepWork& work) const {
  const auto first = sequence.request.prompt.begin() + sequence.num_computed;
  work.plan.token_ids.insert(work.plan.token_ids.end(), first, first + num_tokens);
  work.plan.sequences.push_back(PlanRows(sequence, num_tokens));
  work.request_ids.push_back(sequence.request.id);
  work.prefill_tokens += num_tokens;
}

absl::StatusOr<std::vector<RequestEvent>> Scheduler::Commit(const StepWork& work,
                                                            const shard::StepResult& result,
                                                            SteadyTime now) {
  const auto& planned = work.plan.sequences;
  std::vector<const shard::SampledToken*> drawn(planned.size(), nullptr);
  for (const shard::SampledToken& token : result.tokens) {
    const uint32_t index = token.sequence_index;
    const bool expected = index < planned.size() && planned[index].num_draws > 0 &&
                          token.draw_index == 0 && drawn[index] == nullptr;
    if (!expected || (!token.nonfinite_logits && token.token_id >= limits_.vocabulary_tokens)) {
      return absl::InternalError(
          absl::StrFormat("token %u of sequence %u was not asked for", token.token_id, index));
    }
    drawn[index] = &token;
  }
  std::vector<RequestEvent> events;
  for (size_t i = 0; i < planned.size(); ++i) {
    Sequence* sequence = FindRunning(work.request_ids[i]);
    PHI_CHECK(sequence != nullptr,
              "request %llu ended within its step",
              static_cast<unsigned long long>(work.request_ids[i]));
    if (planned[i].num_draws > 0 && drawn[i] == nullptr) {
      return absl::InternalError(absl::StrFormat("no token for sequence %u", i));
    }
    sequence->num_computed += planned[i].num_tokens;
    if (drawn[i] != nullptr) TakeToken(*sequence, *drawn[i], now, events);
  }
  DropEnded();
  return events;
}

void Scheduler::TakeToken(Sequence& sequence,
                          const shard::SampledToken& token,
                          SteadyTime now,
                          std::vector<RequestEvent>& events) {
  if (token.nonfinite_logits) {
    const absl::Status status =
        MakeError(ErrorReason::kNonfiniteLogits, "the model's logits are not finite");
    events.push_back(End(sequence, status, FinishReason::kEos, now));
    return;
  }
  RequestTimes& times = sequence.times;
  times.previous_token = times.latest_token;
  times.latest_token = now;
  if (sequence.num_generated == 0) times.first_token = now;
  ++sequence.num_generated;
  sequence.latest_token = token.token_id;
  events.push_back(RequestEvent{.request_id = sequence.request.id, .token = token, .times = times});
  if (const auto reason = FinishOf(sequence, token.token_id)) {
    events.push_back(End(sequence, absl::OkStatus(), *reason, now));
  }
}

std::optional<FinishReason> Scheduler::FinishOf(const Sequence& sequence, uint32_t token_id) const {
  const EngineRequest& request = sequence.request;
  if (token_id == limits_.eos_token_id && !request.ignore_eos) return FinishReason::kEos;
  // Like EOS, which is masked until then: a stop is the first token after min_new_tokens at the
  // earliest.
  const auto& stops = request.stop_token_ids;
  if (sequence.num_generated > request.min_new_tokens &&
      std::find(stops.begin(), stops.end(), token_id) != stops.end()) {
    return FinishReason::kStopToken;
  }
  if (sequence.num_generated < request.max_new_tokens) return std::nullopt;
  return request.context_bounds ? FinishReason::kContextLength : FinishReason::kMaxNewTokens;
}

RequestEvent Scheduler::End(Sequence& sequence,
                            const absl::Status& status,
                            FinishReason reason,
                            SteadyTime now) {
  PHI_CHECK(!sequence.ended,
            "request %llu ends twice (I3)",
            static_cast<unsigned long long>(sequence.request.id));
  sequence.ended = true;
  ++num_ended_;
  const bool queued = sequence.block_ids.empty();
  if (queued) waiting_tokens_ -= static_cast<uint32_t>(sequence.request.prompt.size());
  pool_.Release(sequence.request.id, sequence.block_ids);
  const RequestStage stage = queued                  ? RequestStage::kQueued
                             : sequence.prefilling() ? RequestStage::kPrefill
                                                     : RequestStage::kDecode;
  RequestEvent event;
  event.request_id = sequence.request.id;
  if (status.ok()) event.sample_end = reason;
  event.times = sequence.times;
  event.end = RequestEnd{.status = status,
                         .reason = reason,
                         .stage = stage,
                         .prompt_tokens = static_cast<uint32_t>(sequence.request.prompt.size()),
                         .generated_tokens = sequence.num_generated,
                         .computed_tokens = sequence.num_computed,
                         .times = sequence.times,
                         .ended = now};
  return event;
}

void Scheduler::DropEnded() {
  std::erase_if(running_, [](const Sequence& s) { return s.ended; });
}

Scheduler::Sequence* Scheduler::FindRunning(uint64_t request_id) {
  const auto found = std::find_if(running_.begin(), running_.end(), [&](const Sequence& s) {
    return s.request.id == request_id;
  });
  return found == running_.end() ? nullptr : &*found;
}

Occupancy Scheduler::occupancy() const {
  return Occupancy{.waiting_requests = static_cast<uint32_t>(waiting_.size()),
                   .waiting_tokens = waiting_tokens_,
                   .running_requests = static_cast<uint32_t>(running_.size())};
}

std::vector<std::string> Scheduler::CheckInvariants() const {
  std::vector<std::string> violations = pool_.CheckInvariants();
  size_t owned = 0;
  for (const Sequence& sequence : running_) {
    owned += sequence.block_ids.size();
    for (uint32_t id : sequence.block_ids) {
      if (pool_.owner(id) == sequence.request.id) continue;
      violations.push_back(
          absl::StrFormat("I2: request %u uses block %u of another", sequence.request.id, id));
    }
    if (sequence.ended)
      violations.push_back(absl::StrFormat("I3: request %u runs on", sequence.request.id));
  }
  if (owned != pool_.counts().owned) {
    violations.push_back(
        absl::StrFormat("I2: %u blocks owned, %u used", pool_.counts().owned, owned));
  }
  size_t tokens = 0;
  for (const Sequence& sequence : waiting_) tokens += sequence.request.prompt.size();
  if (tokens != waiting_tokens_) {
    violations.push_back(absl::StrFormat("%u tokens wait, %u counted", tokens, waiting_tokens_));
  }
  if (num_submitted_ != num_ended_ + waiting_.size() + running_.size()) {
    violations.push_back(absl::StrFormat("I3: %u submitted, %u ended, %u here",
                                         num_submitted_,
                                         num_ended_,
                                         waiting_.size() + running_.size()));
  }
  return violations;
}

}  // namespace phi::service
