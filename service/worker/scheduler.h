#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "service/worker/engine_request.h"
#include "service/worker/kv_block_pool.h"
#include "shard/rank.h"
#include "shard/step_plan.h"

// Continuous batching: which tokens of which requests the next step computes. Pure: no clock,
// thread or socket. Sources: Orca (OSDI 2022) for scheduling by step, Sarathi-Serve (OSDI 2024) for
// prompt chunks beside decodes.
namespace phi::service {

struct SchedulerLimits {
  uint32_t context_tokens = 0;
  uint32_t vocabulary_tokens = 0;  // real ids are below it
  uint32_t eos_token_id = 0;
  uint32_t max_sequences = 0;
  uint32_t max_step_tokens = 0;  // >= max_sequences
  uint32_t num_kv_blocks = 0;
  uint32_t max_queued_requests = 0;
  uint32_t max_queued_tokens = 0;  // prompt tokens
  bool prefix_cache = true;        // full KV blocks of equal content are shared
};

// Prompt tokens in one step: they bound how long a step takes, and so how long others wait for
// their next token.
struct ChunkLimits {
  uint32_t alone = 0;
  uint32_t beside_decodes = 0;
};

// What the scheduler holds; the queue is refused by it (I6, I7).
struct Occupancy {
  uint32_t waiting_requests = 0;
  uint32_t waiting_tokens = 0;  // of their prompts
  uint32_t running_requests = 0;
};

// Whether a request may join a scheduler so occupied: INVALID_ARGUMENT for one that is wrong in
// itself, KV_CAPACITY for one that could never run, QUEUE_FULL or TOKEN_BUDGET for one that cannot
// now. Those that can start at once do not count as queued. O(stop_token_ids + prompt).
absl::Status CheckAdmission(const EngineRequest& request,
                            const SchedulerLimits& limits,
                            const Occupancy& occupancy);

// KV blocks that hold a request to its end: of prompt + max_new_tokens - 1 tokens, for the last is
// never an input.
uint32_t BlocksNeeded(const EngineRequest& request);

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
  std::optional<shard::SampledToken> token =
      {};                                       // set: one more token, drawn at times.latest_token
  std::optional<FinishReason> sample_end = {};  // set: the sample finished
  std::optional<RequestEnd> end = {};           // set: the end, after which the id is forgotten
  RequestTimes times;
};

// The waiting queue is first in, first out; a request leaves it when all KV blocks to its end are
// free, and keeps them, so that nothing that runs is ever taken back. Every running request that
// can decode does so in each step; what remains of the step goes to prompts, oldest first.
class Scheduler {
 public:
  Scheduler(const SchedulerLimits& limits, const ChunkLimits& chunks);

  // CheckAdmission's error, or the request waits; `id` must be new.
  absl::Status Submit(EngineRequest request);
  // Its end as CANCELLED, its blocks free; nothing where it has ended already. Not between Plan and
  // Commit.
  std::optional<RequestEvent> Cancel(uint64_t request_id, SteadyTime now);
  // One sample's end, as the caller wants no more of it; the request's where it was the last one.
  std::optional<RequestEvent> EndSample(uint64_t request_id, uint32_t sample, SteadyTime now);
  // Ends everything whose time is up: with TIME_LIMIT after the first token, as DEADLINE_IN_QUEUE
  // before it.
  std::vector<RequestEvent> Expire(SteadyTime now);
  // Ends all that wait, or all there is, with `status`.
  std::vector<RequestEvent> FailWaiting(const absl::Status& status, SteadyTime now);
  std::vector<RequestEvent> FailAll(const absl::Status& status, SteadyTime now);

  // The next step; idle when there are no requests. Each is followed by its Commit.
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
  KvBlockPool::Counts kv_counts() const { return pool_.counts(); }
  bool empty() const { return waiting_.empty() && running_.empty(); }
  uint64_t num_submitted() const { return num_submitted_; }
  uint64_t num_ended() const { return num_ended_; }

  // All violations of I2 and I3, in words.
  std::vector<std::string> CheckInvariants() const;

 private:
  struct Sequence {
    EngineRequest request;
    std::vector<uint32_t> block_ids;
    uint32_t num_computed = 0;  // tokens whose keys and values are in the cache
    uint32_t num_generated = 0;
    uint32_t latest_token = 0;  // the next input once the prompt is computed
    RequestTimes times;
    bool ended = false;  // to be dropped from running_

    bool prefilling() const { return num_generated == 0; }
  };

  bool TimeIsUp(const Sequence& sequence, SteadyTime now) const;
  void AddDecode(Sequence& sequence, StepWork& work) const;
  void AddPrefill(Sequence& sequence, uint32_t num_tokens, StepWork& work) const;
  shard::PlannedSequence PlanRows(const Sequence& sequence, uint32_t num_tokens) const;
  bool AdmitOldest(SteadyTime now);
  std::optional<FinishReason> FinishOf(const Sequence& sequence, uint32_t token_id) const;
  void TakeToken(Sequence& sequence,
                 const shard::SampledToken& token,
                 SteadyTime now,
                 std::vector<RequestEvent>& events);
  // Frees what the sequence holds and makes its last event; the caller drops it from its list.
  RequestEvent End(Sequence& sequence,
                   const absl::Status& status,
                   FinishReason reason,
                   SteadyTime now);
  void DropEnded();
  Sequence* FindRunning(uint64_t request_id);

  SchedulerLimits limits_;
  ChunkLimits chunks_;
  SteadyDuration deadline_margin_{};
  KvBlockPool pool_;
  std::deque<Sequence> waiting_;
  std::vector<Sequence> running_;  // in order of admission
  uint32_t waiting_tokens_ = 0;
  uint64_t num_submitted_ = 0;
  uint64_t num_ended_ = 0;
};

}  // namespace phi::service
