#include "service/worker/scheduler.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"
#include "service/api/error.h"

namespace phi::service {
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
  PHI_RETURN_IF_ERROR(CheckAdmission(request, limits_, occupancy(), queue_.of(request.caller)));
  const uint64_t id = request.id;
  const auto num_prompt_tokens = static_cast<uint32_t>(request.prompt.size());
  queue_.Push(request.caller,
              id,
              num_prompt_tokens + uint64_t{request.num_samples} * request.max_new_tokens,
              num_prompt_tokens);
  ++counts_.submitted;
  ActiveRequest& active = requests_[id];
  active.num_prompt_tokens = num_prompt_tokens;
  active.num_living = request.num_samples;
  active.times.arrival = request.arrival;
  active.waiting = std::make_unique<Sequence>();
  active.waiting->owner = &active;
  active.waiting->tokens = std::move(request.prompt);
  active.request = std::move(request);
  return absl::OkStatus();
}

StepWork Scheduler::Plan(SteadyTime now) {
  StepWork work;
  planned_.clear();
  Admit(now);
  PlanDecodes(work);
  PlanPrompts(work);
  return work;
}

void Scheduler::PlanDecodes(StepWork& work) {
  // Oldest first; the youngest may leave running_ meanwhile.
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence& sequence = *running_[i];
    if (!sequence.decoding() || !TakeNextBlock(sequence, work)) continue;
    AddRows(sequence, 1, work);
    ++work.decode_tokens;
  }
}

void Scheduler::Admit(SteadyTime now) {
  // Strictly in turn: a big one that waits for blocks is not overtaken for ever by small ones.
  while (running_.size() < limits_.max_sequences) {
    if (!preempted_.empty()) {
      if (!TakeBlocks(*preempted_.front())) return;
      InsertByAge(std::move(preempted_.front()), running_);
      preempted_.erase(preempted_.begin());
      continue;
    }
    const std::optional<uint64_t> id = queue_.Front();
    if (!id) return;
    ActiveRequest& next = requests_.at(*id);
    if (!TakeBlocks(*next.waiting)) return;
    queue_.Remove(*id);
    counts_.prompt_tokens += next.num_prompt_tokens;
    next.admission = next_admission_++;
    next.times.admitted = now;
    running_.push_back(std::move(next.waiting));
  }
}

void Scheduler::PlanPrompts(StepWork& work) {
  const uint32_t chunk = work.decode_tokens > 0 ? chunks_.beside_decodes : chunks_.alone;
  uint32_t budget = std::min(chunk, limits_.max_step_tokens - work.decode_tokens);
  const auto add = [&](Sequence& sequence, uint32_t num_tokens) {
    AddRows(sequence, num_tokens, work);
    work.prefill_tokens += num_tokens;
    budget -= num_tokens;
  };
  std::vector<Sequence*> prompts;
  for (const std::unique_ptr<Sequence>& sequence : running_) {
    if (sequence->decoding()) continue;
    SkipCached(*sequence);
    prompts.push_back(sequence.get());
  }
  // The oldest has what is left in any case: half of the budget at least.
  const uint32_t oldest_part = budget - budget / 2;
  for (size_t i = 1; i < prompts.size(); ++i) {
    const uint32_t num_tokens = prompts[i]->num_remaining();
    if (num_tokens > budget - oldest_part) continue;
    add(*std::exchange(prompts[i], nullptr), num_tokens);
    if (budget == oldest_part) break;
  }
  for (Sequence* sequence : prompts) {
    if (budget == 0) break;
    if (sequence != nullptr) add(*sequence, std::min(budget, sequence->num_remaining()));
  }
}

void Scheduler::AddRows(Sequence& sequence, uint32_t num_tokens, StepWork& work) {
  const uint32_t end = sequence.num_computed + num_tokens;
  const auto first = sequence.tokens.begin() + sequence.num_computed;
  work.plan.token_ids.insert(work.plan.token_ids.end(), first, first + num_tokens);
  shard::PlannedSequence planned;
  planned.num_tokens = num_tokens;
  planned.first_position = sequence.num_computed;
  planned.block_ids.assign(sequence.block_ids.begin(), sequence.block_ids.begin() + BlocksFor(end));
  if (end == sequence.tokens.size()) {
    const EngineRequest& request = sequence.owner->request;
    planned.num_draws = sequence.num_draws();
    planned.sampling = request.sampling;
    planned.sampling.sample_index = sequence.sample;
    planned.sampling.mask_eos = sequence.num_generated() < request.min_new_tokens;
    if (shard::HasPenalties(request.sampling)) {
      planned.history = sequence.tokens;
      planned.num_prompt_tokens = sequence.owner->num_prompt_tokens;
    }
  }
  work.plan.sequences.push_back(std::move(planned));
  work.request_ids.push_back(sequence.owner->request.id);
  planned_.push_back(&sequence);
}

absl::StatusOr<std::vector<RequestEvent>> Scheduler::Commit(const StepWork& work,
                                                            const shard::StepResult& result,
                                                            SteadyTime now) {
  PHI_RETURN_IF_ERROR(CheckResult(work, result));
  Events events;
  std::span<const shard::SampledToken> draws = result.tokens;
  for (size_t i = 0; i < planned_.size(); ++i) {
    const shard::PlannedSequence& planned = work.plan.sequences[i];
    const auto own = draws.first(planned.num_draws);
    draws = draws.subspan(planned.num_draws);
    // Another sample of its request may have failed in this very step.
    if (planned_[i]->ended) continue;
    TakeRows(*planned_[i], planned.num_tokens);
    if (!own.empty()) TakeDraws(*planned_[i], own, now, events);
  }
  DropEnded();
  SeatForked();
  return events;
}

absl::Status Scheduler::CheckResult(const StepWork& work, const shard::StepResult& result) const {
  size_t next = 0;
  for (uint32_t i = 0; i < work.plan.sequences.size(); ++i) {
    for (uint32_t draw = 0; draw < work.plan.sequences[i].num_draws; ++draw, ++next) {
      if (next == result.tokens.size())
        return absl::InternalError(absl::StrFormat("no token %u for sequence %u", draw, i));
      const shard::SampledToken& token = result.tokens[next];
      if (token.sequence_index != i || token.draw_index != draw ||
          (!token.nonfinite_logits && token.token_id >= limits_.vocabulary_tokens)) {
        return absl::InternalError(absl::StrFormat(
            "token %u of sequence %u was not asked for", token.token_id, token.sequence_index));
      }
    }
  }
  if (next != result.tokens.size()) return absl::InternalError("more tokens than were asked for");
  return absl::OkStatus();
}

void Scheduler::TakeRows(Sequence& sequence, uint32_t num_tokens) {
  const uint32_t end = sequence.num_computed + num_tokens;
  const uint32_t known_end = std::min(end, sequence.num_computed_before);
  if (known_end > sequence.num_computed)
    counts_.recomputed_tokens += known_end - sequence.num_computed;
  sequence.owner->num_computed += num_tokens;
  PublishBlocks(sequence, end);
  sequence.num_computed = end;
}

void Scheduler::TakeDraws(Sequence& sequence,
                          std::span<const shard::SampledToken> draws,
                          SteadyTime now,
                          Events& events) {
  const auto is_bad = [](const shard::SampledToken& token) { return token.nonfinite_logits; };
  if (std::any_of(draws.begin(), draws.end(), is_bad)) {
    const absl::Status status =
        MakeError(ErrorReason::kNonfiniteLogits, "the model's logits are not finite");
    events.push_back(End(*sequence.owner, status, FinishReason::kEos, now));
    // What made them may be in any cached block, where it would hurt whoever finds it.
    pool_.ForgetAll();
    return;
  }
  const size_t first_child = forked_.size();
  for (uint32_t sample = 1; sample < draws.size(); ++sample) {
    pool_.Share(sequence.block_ids);
    Sequence& child = *forked_.emplace_back(std::make_unique<Sequence>(sequence));
    child.sample = sample;
  }
  TakeToken(sequence, draws.front(), now, events);
  for (size_t i = 1; i < draws.size(); ++i)
    TakeToken(*forked_[first_child + i - 1], draws[i], now, events);
}

void Scheduler::TakeToken(Sequence& sequence,
                          const shard::SampledToken& token,
                          SteadyTime now,
                          Events& events) {
  ActiveRequest& owner = *sequence.owner;
  RequestTimes& times = owner.times;
  if (owner.num_generated == 0) times.first_token = now;
  times.previous_token = std::exchange(sequence.latest_token, now);
  times.latest_token = now;
  ++owner.num_generated;
  sequence.tokens.push_back(token.token_id);
  const std::optional<FinishReason> reason = FinishOf(sequence, token.token_id);
  events.push_back({.request_id = owner.request.id,
                    .sample = sequence.sample,
                    .token = token,
                    .sample_end = reason,
                    .times = times});
  if (!reason) return;
  EndSequence(sequence);
  if (owner.num_living == 0) events.push_back(End(owner, absl::OkStatus(), *reason, now));
}

std::optional<FinishReason> Scheduler::FinishOf(const Sequence& sequence, uint32_t token_id) const {
  const EngineRequest& request = sequence.owner->request;
  if (token_id == limits_.eos_token_id && !request.ignore_eos) return FinishReason::kEos;
  // Like EOS, which is masked until then: a stop is the first token after min_new_tokens at the
  // earliest.
  const auto& stops = request.stop_token_ids;
  if (sequence.num_generated() > request.min_new_tokens &&
      std::find(stops.begin(), stops.end(), token_id) != stops.end()) {
    return FinishReason::kStopToken;
  }
  if (sequence.num_generated() < request.max_new_tokens) return std::nullopt;
  return request.bounded_by_context ? FinishReason::kContextLength : FinishReason::kMaxNewTokens;
}

void Scheduler::SeatForked() {
  for (std::unique_ptr<Sequence>& sequence : forked_) {
    if (running_.size() < limits_.max_sequences) {
      InsertByAge(std::move(sequence), running_);
    } else {
      LoseBlocks(*sequence);
      InsertByAge(std::move(sequence), preempted_);
    }
  }
  forked_.clear();
}

}  // namespace phi::service
