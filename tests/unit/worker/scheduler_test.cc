#include "service/worker/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "service/api/error.h"
#include "tests/unit/worker/fake_model.h"

namespace phi::service {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr uint32_t kEos = 99;
const SteadyTime kStart = SteadyTime() + std::chrono::hours(1);

SchedulerLimits SmallLimits() {
  return {.context_tokens = 128,
          .vocabulary_tokens = 200,
          .eos_token_id = kEos,
          .max_sequences = 4,
          .max_step_tokens = 32,
          .num_kv_blocks = 16,
          .max_queued_requests = 2,
          .max_queued_tokens = 80};
}

EngineRequest Request(uint64_t id, uint32_t prompt_tokens, uint32_t max_new_tokens = 8) {
  EngineRequest request;
  request.id = id;
  request.prompt.resize(prompt_tokens);
  std::iota(request.prompt.begin(), request.prompt.end(), 1U);
  request.max_new_tokens = max_new_tokens;
  request.caller = std::to_string(id);  // one alone may not fill the queue
  request.arrival = kStart;
  return request;
}

ErrorReason ReasonOf(const absl::Status& status) {
  const auto details = GetErrorDetails(status);
  return details ? details->reason : ErrorReason::kInternal;
}

class SchedulerTest : public testing::Test {
 protected:
  SchedulerTest() : scheduler_(SmallLimits(), {.alone = 32, .beside_decodes = 8}) {}
  ~SchedulerTest() override { EXPECT_THAT(scheduler_.CheckInvariants(), IsEmpty()); }

  // One step in which every sampled sequence draws `token_id`.
  std::vector<RequestEvent> Step(uint32_t token_id) {
    now_ += milliseconds(1);
    work_ = scheduler_.Plan(now_);
    shard::StepResult result;
    for (uint32_t i = 0; i < work_.plan.sequences.size(); ++i) {
      for (uint32_t draw = 0; draw < work_.plan.sequences[i].num_draws; ++draw) {
        shard::SampledToken token;
        token.sequence_index = i;
        token.draw_index = draw;
        token.token_id = token_id;
        result.tokens.push_back(token);
      }
    }
    auto events = scheduler_.Commit(work_, result, now_);
    EXPECT_TRUE(events.ok()) << events.status();
    return *std::move(events);
  }
  // Steps until request 1 ends.
  RequestEnd RunToEnd(uint32_t token_id) {
    for (int i = 0; i < 500; ++i) {
      for (const RequestEvent& event : Step(token_id)) {
        if (event.end && event.request_id == 1) return *event.end;
      }
    }
    ADD_FAILURE() << "no end";
    return {};
  }

  Scheduler scheduler_;
  StepWork work_;
  SteadyTime now_ = kStart;
};

TEST_F(SchedulerTest, DecodesOneTokenAStepUntilMaxNewTokens) {
  ASSERT_TRUE(scheduler_.Submit(Request(1, 5, 3)).ok());
  EXPECT_EQ(Step(7).size(), 1u);
  EXPECT_THAT(work_.plan.token_ids, ElementsAre(1, 2, 3, 4, 5));
  EXPECT_EQ(Step(8).size(), 1u);
  EXPECT_THAT(work_.plan.token_ids, ElementsAre(7));
  EXPECT_EQ(work_.plan.sequences[0].first_position, 5u);
  const auto events = Step(9);
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].token->token_id, 9u);
  EXPECT_EQ(events[0].sample_end, FinishReason::kMaxNewTokens);
  EXPECT_EQ(events[1].end->reason, FinishReason::kMaxNewTokens);
  EXPECT_EQ(events[1].end->generated_tokens, 3u);
  EXPECT_TRUE(scheduler_.empty());
  EXPECT_EQ(scheduler_.kv_counts().owned, 0u);
}

TEST_F(SchedulerTest, ContextLengthWhereTheDefaultWasCut) {
  EngineRequest request = Request(1, 5, 3);
  request.bounded_by_context = true;
  ASSERT_TRUE(scheduler_.Submit(request).ok());
  EXPECT_EQ(RunToEnd(7).reason, FinishReason::kContextLength);
}

TEST_F(SchedulerTest, EosEndsUnlessIgnoredAndIsMaskedBeforeMinNewTokens) {
  EngineRequest request = Request(1, 5, 8);
  request.min_new_tokens = 2;
  ASSERT_TRUE(scheduler_.Submit(request).ok());
  Step(7);
  EXPECT_TRUE(work_.plan.sequences[0].sampling.mask_eos);
  Step(7);
  EXPECT_TRUE(work_.plan.sequences[0].sampling.mask_eos);
  const RequestEnd end = RunToEnd(kEos);
  EXPECT_FALSE(work_.plan.sequences[0].sampling.mask_eos);
  EXPECT_EQ(end.reason, FinishReason::kEos);
  EXPECT_EQ(end.generated_tokens, 3u);

  request.ignore_eos = true;
  ASSERT_TRUE(scheduler_.Submit(request).ok());
  EXPECT_EQ(RunToEnd(kEos).reason, FinishReason::kMaxNewTokens);
}

TEST_F(SchedulerTest, StopTokensEndAfterMinNewTokensOnly) {
  EngineRequest request = Request(1, 5, 8);
  request.stop_token_ids = {3, 42};
  request.min_new_tokens = 2;
  ASSERT_TRUE(scheduler_.Submit(request).ok());
  const RequestEnd end = RunToEnd(42);
  EXPECT_EQ(end.reason, FinishReason::kStopToken);
  EXPECT_EQ(end.generated_tokens, 3u);
}

TEST_F(SchedulerTest, TimeLimitKeepsTheTextSoFar) {
  EngineRequest request = Request(1, 5, 100);
  request.time_limit_at = kStart + milliseconds(10);
  ASSERT_TRUE(scheduler_.Submit(request).ok());
  while (now_ < request.time_limit_at) {
    EXPECT_THAT(scheduler_.Expire(now_), IsEmpty());
    Step(7);
  }
  const auto events = scheduler_.Expire(now_);
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].sample_end, FinishReason::kTimeLimit);
  EXPECT_TRUE(events[1].end->status.ok());
  EXPECT_EQ(events[1].end->reason, FinishReason::kTimeLimit);
  EXPECT_EQ(events[1].end->generated_tokens, 10u);
}

TEST_F(SchedulerTest, DeadlineBeforeTheFirstTokenIsAnError) {
  scheduler_.SetDeadlineMargin(milliseconds(20));
  for (uint64_t id = 1; id <= 6; ++id) {
    EngineRequest request = Request(id, 5, 40);
    request.call_deadline = kStart + milliseconds(50);
    ASSERT_TRUE(scheduler_.Submit(request).ok()) << id;
  }
  Step(7);
  EXPECT_THAT(scheduler_.Expire(kStart + milliseconds(29)), IsEmpty());
  int finished = 0;
  int refused = 0;
  for (const RequestEvent& event : scheduler_.Expire(kStart + milliseconds(30))) {
    if (!event.end) continue;
    finished += event.end->status.ok() ? 1 : 0;
    refused += ReasonOf(event.end->status) == ErrorReason::kDeadlineInQueue ? 1 : 0;
  }
  EXPECT_EQ(finished, 4);
  EXPECT_EQ(refused, 2);
  EXPECT_TRUE(scheduler_.empty());
}

TEST_F(SchedulerTest, LongPromptComesInChunksBesideDecodes) {
  ASSERT_TRUE(scheduler_.Submit(Request(1, 4, 60)).ok());
  Step(7);
  ASSERT_TRUE(scheduler_.Submit(Request(2, 20, 8)).ok());
  for (uint32_t expected : {8U, 8U, 4U}) {
    Step(7);
    EXPECT_EQ(work_.decode_tokens, 1u);
    EXPECT_EQ(work_.prefill_tokens, expected);
    EXPECT_EQ(work_.plan.sequences.back().num_draws, expected == 4 ? 1U : 0U);
  }
  Step(7);
  EXPECT_EQ(work_.decode_tokens, 2u);
}

TEST_F(SchedulerTest, ShortPromptsShareAStep) {
  for (uint64_t id = 1; id <= 4; ++id) ASSERT_TRUE(scheduler_.Submit(Request(id, 10)).ok());
  Step(7);
  EXPECT_EQ(work_.plan.sequences.size(), 4u);  // 10 + 10 + 10 + 2 of 32
  EXPECT_EQ(work_.prefill_tokens, 32u);
  EXPECT_EQ(work_.plan.sequences[3].num_draws, 0u);
}

TEST_F(SchedulerTest, NextInTurnIsNotOvertakenWhileItWaitsForBlocks) {
  ASSERT_TRUE(scheduler_.Submit(Request(1, 100, 20)).ok());  // 7 of 16 blocks, then 8
  ASSERT_TRUE(scheduler_.Submit(Request(2, 10, 31)).ok());   // 1, then 3
  for (int i = 0; i < 5; ++i) Step(7);
  EXPECT_EQ(scheduler_.occupancy().running_requests, 2u);
  EngineRequest big = Request(3, 126, 2);  // 8
  std::fill(big.prompt.begin(), big.prompt.end(), 5U);
  ASSERT_TRUE(scheduler_.Submit(big).ok());
  ASSERT_TRUE(scheduler_.Submit(Request(4, 2, 2)).ok());  // 1, but behind it
  for (int i = 0; i < 8; ++i) Step(7);
  EXPECT_EQ(scheduler_.occupancy().running_requests, 2u);
  EXPECT_EQ(scheduler_.occupancy().waiting_requests, 2u);
  EXPECT_EQ(RunToEnd(7).reason, FinishReason::kMaxNewTokens);
  for (int i = 0; i < 12; ++i) Step(7);
  EXPECT_EQ(scheduler_.occupancy().waiting_requests, 0u);
}

TEST_F(SchedulerTest, RefusesWhatIsWrongOrCanNeverRun) {
  EXPECT_EQ(ReasonOf(scheduler_.Submit(Request(1, 0))), ErrorReason::kEmptyPrompt);
  EXPECT_EQ(ReasonOf(scheduler_.Submit(Request(1, 128, 1))), ErrorReason::kPromptTooLong);
  EXPECT_EQ(ReasonOf(scheduler_.Submit(Request(1, 100, 29))), ErrorReason::kContextExceeded);
  EXPECT_EQ(ReasonOf(scheduler_.Submit(Request(1, 100, 0xFFFFFFFF))),
            ErrorReason::kContextExceeded);
  EngineRequest request = Request(1, 4);
  request.prompt[2] = 200;
  EXPECT_EQ(ReasonOf(scheduler_.Submit(request)), ErrorReason::kTokenIdOutOfRange);
  request = Request(1, 4);
  request.stop_token_ids = {200};
  EXPECT_EQ(ReasonOf(scheduler_.Submit(request)), ErrorReason::kTokenIdOutOfRange);

  SchedulerLimits tight = SmallLimits();
  tight.num_kv_blocks = 2;
  EXPECT_EQ(ReasonOf(CheckAdmission(Request(1, 30, 4), tight, {}, {})), ErrorReason::kKvCapacity);
  EXPECT_TRUE(CheckAdmission(Request(1, 30, 3), tight, {}, {}).ok());
  EngineRequest samples = Request(1, 4);
  samples.num_samples = 0;
  EXPECT_EQ(ReasonOf(scheduler_.Submit(samples)), ErrorReason::kFieldOutOfRange);
  samples.num_samples = 17;
  EXPECT_EQ(ReasonOf(scheduler_.Submit(samples)), ErrorReason::kFieldOutOfRange);
  EXPECT_EQ(scheduler_.counts().submitted, 0u);
}

TEST_F(SchedulerTest, QueueIsBoundedInRequestsAndTokens) {
  for (uint64_t id = 1; id <= 6; ++id) ASSERT_TRUE(scheduler_.Submit(Request(id, 10)).ok()) << id;
  const absl::Status full = scheduler_.Submit(Request(7, 1));
  EXPECT_EQ(ReasonOf(full), ErrorReason::kQueueFull);
  EXPECT_TRUE(GetErrorDetails(full)->retry_after.has_value());
  Step(7);
  EXPECT_EQ(scheduler_.occupancy().running_requests, 4u);
  ASSERT_TRUE(scheduler_.Cancel(6, now_));
  EXPECT_EQ(ReasonOf(scheduler_.Submit(Request(7, 71))), ErrorReason::kTokenBudget);
  EXPECT_TRUE(scheduler_.Submit(Request(7, 70)).ok());
}

TEST_F(SchedulerTest, CancelFreesAtOnceAtEveryStage) {
  for (uint64_t id = 1; id <= 4; ++id) ASSERT_TRUE(scheduler_.Submit(Request(id, 4)).ok());
  ASSERT_TRUE(scheduler_.Submit(Request(5, 4)).ok());
  Step(7);
  EXPECT_EQ(scheduler_.Cancel(1, now_)->end->stage, RequestStage::kDecode);
  EXPECT_EQ(scheduler_.Cancel(5, now_)->end->stage, RequestStage::kQueued);
  EXPECT_FALSE(scheduler_.Cancel(1, now_));
  ASSERT_TRUE(scheduler_.Submit(Request(6, 20)).ok());
  Step(7);
  const auto cancelled = scheduler_.Cancel(6, now_);
  EXPECT_EQ(cancelled->end->stage, RequestStage::kPrefill);
  EXPECT_EQ(cancelled->end->status.code(), absl::StatusCode::kCancelled);
  for (uint64_t id = 2; id <= 4; ++id) ASSERT_TRUE(scheduler_.Cancel(id, now_));
  EXPECT_EQ(scheduler_.kv_counts().owned, 0u);
  EXPECT_TRUE(Step(7).empty());
  EXPECT_TRUE(work_.idle());
}

TEST_F(SchedulerTest, NonfiniteLogitsHurtOneRequestOnly) {
  ASSERT_TRUE(scheduler_.Submit(Request(1, 4)).ok());
  ASSERT_TRUE(scheduler_.Submit(Request(2, 4)).ok());
  work_ = scheduler_.Plan(now_);
  shard::StepResult result;
  result.tokens.resize(2);
  result.tokens[0].nonfinite_logits = true;
  result.tokens[0].token_id = 0xFFFFFFFF;
  result.tokens[1].sequence_index = 1;
  result.tokens[1].token_id = 5;
  const auto events = scheduler_.Commit(work_, result, now_);
  ASSERT_TRUE(events.ok());
  ASSERT_EQ(events->size(), 2u);
  EXPECT_EQ(ReasonOf((*events)[0].end->status), ErrorReason::kNonfiniteLogits);
  EXPECT_EQ((*events)[1].token->token_id, 5u);
  EXPECT_EQ(scheduler_.occupancy().running_requests, 1u);
}

TEST_F(SchedulerTest, ResultThatDoesNotAnswerThePlanIsAnError) {
  ASSERT_TRUE(scheduler_.Submit(Request(1, 4)).ok());
  work_ = scheduler_.Plan(now_);
  shard::StepResult result;
  EXPECT_FALSE(scheduler_.Commit(work_, result, now_).ok());
  result.tokens.resize(1);
  result.tokens[0].sequence_index = 1;
  EXPECT_FALSE(scheduler_.Commit(work_, result, now_).ok());
  result.tokens[0].sequence_index = 0;
  result.tokens[0].token_id = 200;
  EXPECT_FALSE(scheduler_.Commit(work_, result, now_).ok());
}

TEST_F(SchedulerTest, FailAllEndsEverything) {
  for (uint64_t id = 1; id <= 6; ++id) ASSERT_TRUE(scheduler_.Submit(Request(id, 4)).ok());
  Step(7);
  EXPECT_EQ(scheduler_.FailWaiting(absl::UnavailableError("draining"), now_).size(), 2u);
  EXPECT_EQ(scheduler_.FailAll(absl::UnavailableError("lost"), now_).size(), 4u);
  EXPECT_TRUE(scheduler_.empty());
  EXPECT_EQ(scheduler_.counts().submitted, scheduler_.counts().ended);
}

}  // namespace
}  // namespace phi::service
