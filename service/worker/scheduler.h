#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "service/worker/batching/kv_block_pool.h"
#include "service/worker/batching/request_admission.h"
#include "service/worker/batching/sequence.h"
#include "service/worker/batching/waiting_queue.h"
#include "service/worker/engine_request.h"
#include "shard/rank.h"
#include "shard/step_plan.h"

// Continuous batching: which tokens of which requests the next step computes. Pure: no clock,
// thread or socket. Sources: Orca (OSDI 2022) for scheduling by step, Sarathi-Serve (OSDI 2024) for
// prompt chunks beside decodes, vLLM (SOSP 2023) for paged KV blocks and preemption.
namespace phi::service {

// Prompt tokens in one step: they bound how long a step takes, and so how long others wait for
// their next token.
struct ChunkLimits {
  uint32_t alone = 0;
  uint32_t beside_decodes = 0;
};

// One step, and whose it is.
struct StepWork {
  shard::StepPlan plan;               // epoch and step are filled in by the loop
  std::vector<uint64_t> request_ids;  // of plan.sequences
  uint32_t prefill_tokens = 0;
  uint32_t decode_tokens = 0;
  bool idle() const { return request_ids.empty(); }
};

struct RequestEvent {
  uint64_t request_id = 0;
  uint32_t sample = 0;
  std::optional<shard::SampledToken> token = {};  // set: one more token, at times.latest_token
  std::optional<FinishReason> sample_end = {};    // set: the sample finished
  std::optional<RequestEnd> end = {};             // set: the end, after which the id is forgotten
  RequestTimes times;
};

// What happened since the start.
struct SchedulerCounts {
  uint64_t submitted = 0;
  uint64_t ended = 0;
  uint64_t prompt_tokens = 0;      // of admitted requests
  uint64_t prefix_hit_tokens = 0;  // of those: found in the prefix cache
  uint64_t preemptions = 0;
  uint64_t recomputed_tokens = 0;  // computed once more after a preemption
};

// Requests wait in a WaitingQueue for a seat and for the KV blocks of their prompt; further blocks
// are taken as they are needed. Where there are none, the sequence that was admitted last gives up
// its own and is computed again later, before anything that waits (it gets the same tokens, I1). So
// the oldest always goes on and there is no deadlock or livelock.
//
// Every running sequence that can decode does so in each step; what remains of the step goes to
// prompts, oldest first, but half of it to later prompts that fit there whole: a long prompt does
// not delay short ones.
//
// A request of n samples takes one seat until its prompt is computed; then the samples share its
// blocks and take a seat each, or wait for one like those that were preempted. A block that is not
// full is copied when the first of them writes to it.
class Scheduler {
 public:
  Scheduler(const SchedulerLimits& limits, const ChunkLimits& chunks);

  // CheckAdmission's error, or the request waits; `id` must be new.
  absl::Status Submit(EngineRequest request);

  // None of the following between Plan and Commit, but for FailAll.

  // Its end as CANCELLED, its blocks free; nothing where it has ended already.
  std::optional<RequestEvent> Cancel(uint64_t request_id, SteadyTime now);
  // The sample ends, as its text needs no more of it; the request's end, for `reason`, where it was
  // the last one. Nothing where it has ended already or has no token yet.
  std::optional<RequestEvent> EndSample(uint64_t request_id,
                                        uint32_t sample,
                                        FinishReason reason,
                                        SteadyTime now);
  // Ends everything whose time is up: with TIME_LIMIT after the first token, as DEADLINE_IN_QUEUE
  // before it.
  std::vector<RequestEvent> Expire(SteadyTime now);
  // Ends all that wait, or all there is, with `status`.
  std::vector<RequestEvent> FailWaiting(const absl::Status& status, SteadyTime now);
  std::vector<RequestEvent> FailAll(const absl::Status& status, SteadyTime now);

  // The next step; idle when there are no requests. Each is followed by its Commit, or by FailAll.
  StepWork Plan(SteadyTime now);
  // Takes the step's tokens in. INTERNAL where they do not answer the plan: the replica is lost
  // then.
  absl::StatusOr<std::vector<RequestEvent>> Commit(const StepWork& work,
                                                   const shard::StepResult& result,
                                                   SteadyTime now);

  void SetChunkLimits(const ChunkLimits& chunks);
  // How long before a caller's deadline its request is ended.
  void SetDeadlineMargin(SteadyDuration margin) { deadline_margin_ = margin; }

  Occupancy occupancy() const;
  std::unordered_map<std::string, Waiting> waiting_by_caller() const { return queue_.by_caller(); }
  KvBlockPool::Counts kv_counts() const { return pool_.counts(); }
  const SchedulerCounts& counts() const { return counts_; }
  bool empty() const { return requests_.empty(); }

  // All violations of I2 and I3, in words.
  std::vector<std::string> CheckInvariants() const;

 private:
  using Events = std::vector<RequestEvent>;

  // Planning.
  void PlanDecodes(StepWork& work);
  void PlanPrompts(StepWork& work);
  void AddRows(Sequence& sequence, uint32_t num_tokens, StepWork& work);
  void Admit(SteadyTime now);
  // The blocks of all its tokens, cached ones first; nothing where there are too few.
  bool TakeBlocks(Sequence& sequence);
  // Goes on behind what others computed meanwhile.
  void SkipCached(Sequence& sequence);
  // The block after its first `index` ones where the prefix cache has it; the last token is always
  // left to compute, for its logits are wanted.
  std::optional<uint32_t> FindBlock(const Sequence& sequence, size_t index);
  void NoteHits(Sequence& sequence, uint32_t num_blocks);
  // The block of the next position, written by nobody else; younger sequences give way, and false
  // where it had to itself.
  bool TakeNextBlock(Sequence& sequence, StepWork& work);
  void PreemptYoungest();
  // Those that computing up to `end` fills become shareable.
  void PublishBlocks(Sequence& sequence, uint32_t end);
  void LoseBlocks(Sequence& sequence);

  // Committing.
  absl::Status CheckResult(const StepWork& work, const shard::StepResult& result) const;
  void TakeRows(Sequence& sequence, uint32_t num_tokens);
  // One token, or the first ones of all samples.
  void TakeDraws(Sequence& sequence,
                 std::span<const shard::SampledToken> draws,
                 SteadyTime now,
                 Events& events);
  void TakeToken(Sequence& sequence,
                 const shard::SampledToken& token,
                 SteadyTime now,
                 Events& events);
  std::optional<FinishReason> FinishOf(const Sequence& sequence, uint32_t token_id) const;
  void SeatForked();

  // Ending.
  bool TimeIsUp(const ActiveRequest& request, SteadyTime now) const;
  void EndSequence(Sequence& sequence);
  void TimeOut(ActiveRequest& request, SteadyTime now, Events& events);
  // Frees all that the request holds and forgets it.
  RequestEvent End(ActiveRequest& request,
                   const absl::Status& status,
                   FinishReason reason,
                   SteadyTime now);
  void DropEnded();

  SchedulerLimits limits_;
  ChunkLimits chunks_;
  SteadyDuration deadline_margin_{};
  KvBlockPool pool_;
  std::map<uint64_t, ActiveRequest> requests_;  // by id, until their end
  WaitingQueue queue_;
  SequenceList running_;
  SequenceList preempted_;          // they wait before the queue, without blocks
  std::vector<Sequence*> planned_;  // of the step under way
  SequenceList forked_;             // in Commit: not seated yet
  uint64_t next_admission_ = 1;
  SchedulerCounts counts_;
};

}  // namespace phi::service
