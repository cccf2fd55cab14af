// How requests leave the scheduler, and what must hold of those that are there.
#include <algorithm>
#include <string_view>

#include "absl/strings/str_format.h"
#include "kernels/base/check.h"
#include "service/api/error.h"
#include "service/worker/scheduler.h"

namespace phi::service {

std::optional<RequestEvent> Scheduler::Cancel(uint64_t request_id, SteadyTime now) {
  const auto found = requests_.find(request_id);
  if (found == requests_.end()) return std::nullopt;
  RequestEvent event =
      End(found->second, absl::CancelledError("cancelled by the caller"), FinishReason::kEos, now);
  DropEnded();
  return event;
}

std::optional<RequestEvent> Scheduler::EndSample(uint64_t request_id,
                                                 uint32_t sample,
                                                 FinishReason reason,
                                                 SteadyTime now) {
  const auto found = requests_.find(request_id);
  if (found == requests_.end() || found->second.num_generated == 0) return std::nullopt;
  ActiveRequest& request = found->second;
  for (const SequenceList* list : {&running_, &preempted_}) {
    for (const std::unique_ptr<Sequence>& sequence : *list) {
      if (sequence->owner != &request || sequence->sample != sample) continue;
      EndSequence(*sequence);
      std::optional<RequestEvent> event;
      if (request.num_living == 0) event = End(request, absl::OkStatus(), reason, now);
      DropEnded();
      return event;
    }
  }
  return std::nullopt;
}

bool Scheduler::TimeIsUp(const ActiveRequest& active, SteadyTime now) const {
  const EngineRequest& request = active.request;
  // Written so that an unset deadline, the end of time, cannot overflow.
  return now >= request.time_limit_at || request.call_deadline - now <= deadline_margin_;
}

std::vector<RequestEvent> Scheduler::Expire(SteadyTime now) {
  std::vector<ActiveRequest*> late;
  for (auto& [id, request] : requests_) {
    if (TimeIsUp(request, now)) late.push_back(&request);
  }
  Events events;
  for (ActiveRequest* request : late) TimeOut(*request, now, events);
  DropEnded();
  return events;
}

void Scheduler::TimeOut(ActiveRequest& request, SteadyTime now, Events& events) {
  if (request.num_generated == 0) {
    const absl::Status late =
        MakeError(ErrorReason::kDeadlineInQueue, "the time was up before the first token");
    events.push_back(End(request, late, FinishReason::kTimeLimit, now));
    return;
  }
  for (const SequenceList* list : {&running_, &preempted_}) {
    for (const std::unique_ptr<Sequence>& sequence : *list) {
      if (sequence->ended || sequence->owner != &request) continue;
      events.push_back({.request_id = request.request.id,
                        .sample = sequence->sample,
                        .sample_end = FinishReason::kTimeLimit,
                        .times = request.times});
    }
  }
  events.push_back(End(request, absl::OkStatus(), FinishReason::kTimeLimit, now));
}

std::vector<RequestEvent> Scheduler::FailWaiting(const absl::Status& status, SteadyTime now) {
  Events events;
  for (auto next = requests_.begin(); next != requests_.end();) {
    ActiveRequest& request = (next++)->second;  // End erases it
    if (request.admission == 0) events.push_back(End(request, status, FinishReason::kEos, now));
  }
  return events;
}

std::vector<RequestEvent> Scheduler::FailAll(const absl::Status& status, SteadyTime now) {
  Events events;
  while (!requests_.empty())
    events.push_back(End(requests_.begin()->second, status, FinishReason::kEos, now));
  DropEnded();
  return events;
}

void Scheduler::EndSequence(Sequence& sequence) {
  PHI_CHECK(!sequence.ended, "a sequence ends twice (I3)");
  pool_.Release(sequence.block_ids);
  sequence.block_ids.clear();
  sequence.ended = true;
  --sequence.owner->num_living;
}

RequestEvent Scheduler::End(ActiveRequest& request,
                            const absl::Status& status,
                            FinishReason reason,
                            SteadyTime now) {
  const uint64_t id = request.request.id;
  const RequestStage stage = request.admission == 0       ? RequestStage::kQueued
                             : request.num_generated == 0 ? RequestStage::kPrefill
                                                          : RequestStage::kDecode;
  if (stage == RequestStage::kQueued) {
    queue_.Remove(id);
  }
  for (const SequenceList* list : {&running_, &preempted_, &forked_}) {
    for (const std::unique_ptr<Sequence>& sequence : *list) {
      if (!sequence->ended && sequence->owner == &request) EndSequence(*sequence);
    }
  }
  ++counts_.ended;
  RequestEvent event{.request_id = id, .times = request.times};
  event.end = RequestEnd{.status = status,
                         .reason = reason,
                         .stage = stage,
                         .prompt_tokens = request.num_prompt_tokens,
                         .cached_prompt_tokens = request.times.cached_prompt_tokens,
                         .generated_tokens = request.num_generated,
                         .computed_tokens = request.num_computed,
                         .times = request.times,
                         .ended = now};
  requests_.erase(id);
  return event;
}

void Scheduler::DropEnded() {
  for (SequenceList* list : {&running_, &preempted_, &forked_})
    std::erase_if(*list, [](const std::unique_ptr<Sequence>& s) { return s->ended; });
}

Occupancy Scheduler::occupancy() const {
  const Waiting& waiting = queue_.total();
  return Occupancy{.waiting_requests = waiting.requests,
                   .waiting_tokens = waiting.tokens,
                   .running_requests = static_cast<uint32_t>(requests_.size()) - waiting.requests,
                   .running_sequences = static_cast<uint32_t>(running_.size() + preempted_.size())};
}

std::vector<std::string> Scheduler::CheckInvariants() const {
  std::vector<std::string> violations = pool_.CheckInvariants();
  const auto check = [&](bool holds, std::string_view what) {
    if (!holds) violations.emplace_back(what);
  };
  std::vector<uint32_t> references(pool_.num_blocks(), 0);
  std::map<const ActiveRequest*, uint32_t> samples;
  for (const SequenceList* list : {&running_, &preempted_}) {
    check(std::is_sorted(list->begin(),
                         list->end(),
                         [](const auto& a, const auto& b) { return IsOlder(*a, *b); }),
          "sequences are not in order of age");
    for (const std::unique_ptr<Sequence>& sequence : *list) {
      for (uint32_t block : sequence->block_ids) ++references[block];
      samples[sequence->owner] += sequence->num_draws();
      check(!sequence->ended, "I3: a sequence runs on after its end");
      check(list == &running_ || sequence->block_ids.empty(), "I2: a preempted one has blocks");
    }
  }
  for (uint32_t block = 0; block < references.size(); ++block) {
    if (references[block] == pool_.references(block)) continue;
    violations.push_back(absl::StrFormat("I2: block %u: %u use it, %u references",
                                         block,
                                         references[block],
                                         pool_.references(block)));
  }
  check(running_.size() <= limits_.max_sequences, "more sequences than seats");
  uint32_t tokens = 0;
  size_t waiting = 0;
  for (const auto& [id, request] : requests_) {
    const bool waits = request.admission == 0;
    waiting += waits ? 1 : 0;
    tokens += waits ? request.num_prompt_tokens : 0;
    check(waits || samples[&request] == request.num_living, "I3: a sample is lost");
  }
  check(tokens == queue_.total().tokens && waiting == queue_.total().requests,
        "what waits is not what is counted");
  check(counts_.submitted == counts_.ended + requests_.size(), "I3: a request is lost");
  return violations;
}

}  // namespace phi::service
