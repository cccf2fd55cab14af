// What sequences share and take from each other: prefixes, samples of one prompt, KV blocks, turns.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "service/api/error.h"
#include "tests/unit/worker/scheduler_driver.h"

namespace phi::service {
namespace {

constexpr uint32_t kEos = 210;

SchedulerLimits SmallLimits() {
  return {.context_tokens = 200,
          .vocabulary_tokens = 211,
          .eos_token_id = kEos,
          .max_sequences = 4,
          .max_step_tokens = 64,
          .num_kv_blocks = 40,
          .max_queued_requests = 200,
          .max_queued_tokens = 10'000};
}

EngineRequest Request(uint64_t id, uint32_t prompt_tokens, uint32_t max_new_tokens = 8) {
  EngineRequest request;
  request.id = id;
  request.prompt.resize(prompt_tokens);
  std::iota(request.prompt.begin(), request.prompt.end(), 1U);
  request.max_new_tokens = max_new_tokens;
  request.ignore_eos = true;
  return request;
}

class SchedulerSharing : public testing::Test {
 protected:
  explicit SchedulerSharing(const SchedulerLimits& limits = SmallLimits())
      : driver_(limits, {.alone = 64, .beside_decodes = 16}) {}

  void Submit(const EngineRequest& request) {
    requests_[request.id] = request;
    ASSERT_TRUE(driver_.Submit(request).ok());
  }
  // Every sample of all requests has the tokens that it would have alone (I1).
  void ExpectAnswersAlone() {
    for (const auto& [id, request] : requests_) {
      for (uint32_t sample = 0; sample < request.num_samples; ++sample) {
        EXPECT_EQ(driver_.tokens(id, sample), AnswerAlone(request, driver_.limits(), sample))
            << "request " << id << ", sample " << sample;
      }
    }
  }
  uint32_t CachedTokens(uint64_t id) const { return driver_.ends().at(id).cached_prompt_tokens; }

  SchedulerDriver driver_;
  std::map<uint64_t, EngineRequest> requests_;
};

TEST_F(SchedulerSharing, RepeatedPromptIsComputedFromItsLastBlockOn) {
  Submit(Request(1, 100));
  driver_.RunToEnd();
  EXPECT_EQ(CachedTokens(1), 0u);
  Submit(Request(2, 100));
  driver_.Step();
  EXPECT_EQ(driver_.work().prefill_tokens, 4u);
  driver_.RunToEnd();
  EXPECT_EQ(CachedTokens(2), 96u);
  ExpectAnswersAlone();
  EXPECT_EQ(driver_.scheduler().counts().prompt_tokens, 200u);
  EXPECT_EQ(driver_.scheduler().counts().prefix_hit_tokens, 96u);
  const auto counts = driver_.scheduler().kv_counts();
  EXPECT_EQ(counts.owned, 0u);
  EXPECT_EQ(counts.cached, 6u);  // 107 positions were inputs
}

TEST_F(SchedulerSharing, OneTokenAtLeastIsComputed) {
  Submit(Request(1, 64));
  driver_.RunToEnd();
  Submit(Request(2, 64));
  driver_.RunToEnd();
  EXPECT_EQ(CachedTokens(2), 48u);
  Submit(Request(3, 65));
  driver_.RunToEnd();
  EXPECT_EQ(CachedTokens(3), 64u);
  ExpectAnswersAlone();
}

TEST_F(SchedulerSharing, GeneratedTokensAreSharedToo) {
  Submit(Request(1, 20, 30));
  driver_.RunToEnd();
  EngineRequest next = Request(2, 20);
  next.prompt.insert(next.prompt.end(), driver_.tokens(1).begin(), driver_.tokens(1).end());
  Submit(next);
  driver_.RunToEnd();
  EXPECT_EQ(CachedTokens(2), 48u);  // of 50; 49 were inputs before
  ExpectAnswersAlone();
}

TEST_F(SchedulerSharing, BlocksAreSharedOnceTheyAreComputed) {
  Submit(Request(1, 150));
  Submit(Request(2, 150));
  driver_.Step();
  // The first one's 64 tokens are under way; nobody can have them yet, but after the step.
  EXPECT_EQ(driver_.work().prefill_tokens, 64u);
  driver_.RunToEnd();
  // The second one started beside the first one's last 22 tokens.
  EXPECT_EQ(CachedTokens(2), 128u);
  EXPECT_EQ(driver_.scheduler().counts().prefix_hit_tokens, 128u);
  ExpectAnswersAlone();
}

TEST_F(SchedulerSharing, AnotherSaltOrAnotherBeginningSharesNothing) {
  Submit(Request(1, 100));
  driver_.RunToEnd();
  EngineRequest salted = Request(2, 100);
  salted.cache_salt = "someone else";
  Submit(salted);
  EngineRequest shifted = Request(3, 100);
  shifted.prompt[0] = 99;  // the other blocks hold the same tokens after other ones
  Submit(shifted);
  driver_.RunToEnd();
  EXPECT_EQ(CachedTokens(2), 0u);
  EXPECT_EQ(CachedTokens(3), 0u);
  salted.id = 4;
  Submit(salted);
  driver_.RunToEnd();
  EXPECT_EQ(CachedTokens(4), 96u);
  ExpectAnswersAlone();
}

TEST_F(SchedulerSharing, NonfiniteLogitsEmptyTheCache) {
  Submit(Request(1, 100));
  driver_.RunToEnd();
  ASSERT_TRUE(driver_.Submit(Request(2, 50, 8)).ok());
  Scheduler& scheduler = driver_.scheduler();
  const StepWork work = scheduler.Plan(driver_.now());
  shard::StepResult result;
  result.tokens.resize(1);
  result.tokens[0].nonfinite_logits = true;
  const auto events = scheduler.Commit(work, result, driver_.now());
  ASSERT_TRUE(events.ok());
  driver_.Take(*events);
  driver_.Check();
  EXPECT_EQ(scheduler.kv_counts().cached, 0u);
  Submit(Request(3, 100));
  driver_.RunToEnd();
  EXPECT_EQ(CachedTokens(3), 0u);
}

TEST_F(SchedulerSharing, SamplesShareOnePrefillAndPartAtTheirFirstWrite) {
  EngineRequest request = Request(1, 40, 20);
  request.num_samples = 3;
  Submit(request);
  driver_.Step();
  EXPECT_EQ(driver_.work().prefill_tokens, 40u);
  EXPECT_EQ(driver_.work().plan.sequences[0].num_draws, 3u);
  EXPECT_EQ(driver_.scheduler().kv_counts().owned, 3u);  // all of them together
  driver_.Step();
  EXPECT_EQ(driver_.work().decode_tokens, 3u);
  // The block of positions 32 to 39 is the one that each writes to; the last one has it for itself.
  EXPECT_EQ(driver_.work().plan.block_copies.size(), 2u);
  EXPECT_EQ(driver_.scheduler().kv_counts().owned, 5u);
  driver_.RunToEnd();
  ExpectAnswersAlone();
  const RequestEnd& end = driver_.ends().at(1);
  EXPECT_EQ(end.generated_tokens, 60u);
  EXPECT_EQ(end.computed_tokens, 40u + 3 * 19u);
  EXPECT_EQ(driver_.finishes().size(), 3u);
}

TEST_F(SchedulerSharing, SamplesBeyondTheSeatsTakeTheirTurn) {
  EngineRequest request = Request(1, 40, 20);
  request.num_samples = 16;
  Submit(request);
  Submit(Request(2, 30, 5));
  driver_.RunToEnd();
  ExpectAnswersAlone();
  EXPECT_EQ(driver_.finishes().size(), 17u);
}

TEST_F(SchedulerSharing, EndedSampleLeavesTheOthersAlone) {
  EngineRequest request = Request(1, 40, 20);
  request.num_samples = 3;
  Submit(request);
  Scheduler& scheduler = driver_.scheduler();
  EXPECT_FALSE(scheduler.EndSample(1, 0, FinishReason::kStopString, driver_.now()))
      << "no text yet";
  driver_.Step();
  driver_.Step();
  EXPECT_FALSE(scheduler.EndSample(1, 1, FinishReason::kStopString, driver_.now()));
  driver_.Check();
  EXPECT_FALSE(scheduler.EndSample(1, 1, FinishReason::kStopString, driver_.now()))
      << "ended before";
  EXPECT_FALSE(scheduler.EndSample(1, 3, FinishReason::kStopString, driver_.now()))
      << "there is none";
  driver_.Step();
  EXPECT_EQ(driver_.tokens(1, 1).size(), 2u);
  EXPECT_EQ(driver_.tokens(1, 2).size(), 3u);
  EXPECT_FALSE(scheduler.EndSample(1, 0, FinishReason::kStopString, driver_.now()));
  const auto last = scheduler.EndSample(1, 2, FinishReason::kStopCondition, driver_.now());
  ASSERT_TRUE(last && last->end);
  EXPECT_TRUE(last->end->status.ok());
  EXPECT_EQ(last->end->reason, FinishReason::kStopCondition);
  EXPECT_EQ(last->end->generated_tokens, 2u + 3u + 3u);
  EXPECT_TRUE(scheduler.empty());
  driver_.Check();
  EXPECT_EQ(scheduler.kv_counts().owned, 0u);
}

TEST_F(SchedulerSharing, TimeLimitEndsEachLivingSample) {
  EngineRequest request = Request(1, 40, 100);
  request.num_samples = 3;
  request.time_limit_at = driver_.now() + std::chrono::milliseconds(5);
  Submit(request);
  for (int i = 0; i < 5; ++i) driver_.Step();
  driver_.scheduler().EndSample(1, 1, FinishReason::kStopString, driver_.now());
  driver_.Take(driver_.scheduler().Expire(driver_.now()));
  EXPECT_EQ(driver_.finishes().size(), 2u);
  EXPECT_FALSE(driver_.finishes().contains({1, 1}));
  EXPECT_TRUE(driver_.ends().at(1).status.ok());
}

class SchedulerWithFewBlocks : public SchedulerSharing {
 protected:
  SchedulerWithFewBlocks() : SchedulerSharing(Limits()) {}
  static SchedulerLimits Limits() {
    SchedulerLimits limits = SmallLimits();
    limits.num_kv_blocks = 13;
    return limits;
  }
};

// Row 66 of docs/reliability.md.
TEST_F(SchedulerWithFewBlocks, Row66_YoungestGivesWayAndIsComputedAgain) {
  for (uint64_t id = 1; id <= 4; ++id) {
    EngineRequest request = Request(id, 20, 180);
    request.prompt[0] = static_cast<uint32_t>(100 + id);
    Submit(request);
  }
  bool fewer_ran = false;
  while (!driver_.scheduler().empty() && !HasFatalFailure()) {
    const uint64_t oldest = driver_.ends().size() + 1;  // they end in order of age
    ASSERT_TRUE(driver_.Step());
    EXPECT_THAT(driver_.work().request_ids, testing::Contains(oldest)) << "it goes on in each step";
    fewer_ran |= driver_.work().request_ids.size() == 1;
  }
  EXPECT_TRUE(fewer_ran) << "13 blocks hold one of 200 tokens";
  ExpectAnswersAlone();
  EXPECT_GT(driver_.scheduler().counts().preemptions, 2u);
  EXPECT_GT(driver_.scheduler().counts().recomputed_tokens, 0u);
}

TEST_F(SchedulerWithFewBlocks, Row66_SamplesThatDoNotFitTogetherTakeTurns) {
  EngineRequest request = Request(1, 30, 160);
  request.num_samples = 4;
  Submit(request);
  driver_.RunToEnd();
  ExpectAnswersAlone();
  EXPECT_GT(driver_.scheduler().counts().preemptions, 0u);
}

TEST_F(SchedulerWithFewBlocks, LeastRecentlyUsedIsEvictedFirst) {
  const auto distinct = [](uint64_t id) {
    EngineRequest request = Request(id, 64, 2);  // 4 blocks are cached
    request.prompt[0] = static_cast<uint32_t>(100 + id % 10);
    return request;
  };
  for (uint64_t id = 1; id <= 3; ++id) {
    Submit(distinct(id));
    driver_.RunToEnd();
  }
  EXPECT_EQ(driver_.scheduler().kv_counts().cached, 12u);
  Submit(distinct(11));  // the first one's again
  driver_.RunToEnd();
  EXPECT_EQ(CachedTokens(11), 48u);
  Submit(distinct(4));  // needs the room of the second one
  driver_.RunToEnd();
  Submit(distinct(21));
  driver_.RunToEnd();
  EXPECT_EQ(CachedTokens(21), 48u);
  Submit(distinct(12));
  driver_.RunToEnd();
  EXPECT_LT(CachedTokens(12), 48u);
  ExpectAnswersAlone();
}

TEST_F(SchedulerSharing, Row65_CallerOfOneIsServedBesideCallerOfHundreds) {
  for (uint64_t id = 1; id <= 100; ++id) {
    EngineRequest request = Request(id, 20, 20);
    request.prompt[0] = static_cast<uint32_t>(id);
    request.caller = "many";
    Submit(request);
  }
  EngineRequest one = Request(101, 20, 20);
  one.caller = "one";
  Submit(one);
  while (!driver_.ends().contains(101)) ASSERT_TRUE(driver_.Step());
  // A turn is 256 tokens, so 6 of 40; then come seats that are free.
  EXPECT_LE(driver_.ends().size(), 6u + 4u + 4u);
  driver_.RunToEnd();
  ExpectAnswersAlone();
}

// Whoever floods, in requests or in tokens, leaves a part of the queue; in turn, so does the next
// one.
class ShareOfQueue : public testing::Test {
 protected:
  // How many requests of `prompt_tokens` a new caller has waiting when it is refused for the first
  // time, and why it was.
  std::pair<uint32_t, ErrorReason> Flood(uint32_t prompt_tokens) {
    Waiting own;
    for (;;) {
      const absl::Status admitted =
          CheckAdmission(Request(1, prompt_tokens), limits_, occupancy_, own);
      if (!admitted.ok()) return {own.requests, GetErrorDetails(admitted)->reason};
      for (uint32_t* requests : {&own.requests, &occupancy_.waiting_requests}) ++*requests;
      for (uint32_t* tokens : {&own.tokens, &occupancy_.waiting_tokens}) *tokens += prompt_tokens;
    }
  }

  SchedulerLimits limits_ = [] {
    SchedulerLimits limits = SmallLimits();
    limits.max_queued_requests = 64;
    return limits;
  }();
  Occupancy occupancy_{.running_sequences = 4};
};

TEST_F(ShareOfQueue, Row65_WhoFloodsThePlacesLeavesSomeToOthers) {
  EXPECT_EQ(Flood(1), std::pair(56U, ErrorReason::kQueueFull));
  EXPECT_EQ(Flood(1), std::pair(7U, ErrorReason::kQueueFull));
  EXPECT_EQ(Flood(1), std::pair(1U, ErrorReason::kQueueFull));
}

TEST_F(ShareOfQueue, Row65_WhoFloodsTheTokensLeavesSomeToOthers) {
  limits_.max_queued_tokens = 1800;
  EXPECT_EQ(Flood(100), std::pair(16U, ErrorReason::kTokenBudget));
  EXPECT_EQ(Flood(100), std::pair(1U, ErrorReason::kTokenBudget));
}

TEST_F(ShareOfQueue, Row65_NoQueueIsTooSmallToBeShared) {
  for (const uint32_t places : {2, 3, 8, 9}) {
    limits_.max_queued_requests = places;
    occupancy_ = {.running_sequences = 4};
    EXPECT_EQ(Flood(1).first, places - 1);
    EXPECT_EQ(Flood(1).first, 1U);
  }
}

TEST_F(ShareOfQueue, WhatStartsAtOnceTakesNoShare) {
  limits_.max_queued_requests = 1;
  occupancy_ = {};
  EXPECT_EQ(Flood(1).first, 4U + 1U);
}

TEST_F(SchedulerSharing, Row67_ShortPromptsPassALongOne) {
  Submit(Request(1, 10, 60));
  driver_.Step();
  Submit(Request(2, 190));
  for (uint64_t id = 3; id <= 4; ++id) {
    EngineRequest request = Request(id, 8, 2);
    request.prompt[0] = static_cast<uint32_t>(100 + id);
    Submit(request);
  }
  driver_.Step();
  EXPECT_EQ(driver_.tokens(3).size(), 1u) << "half of the chunk beside decodes is for short ones";
  EXPECT_EQ(driver_.work().prefill_tokens, 16u);
  driver_.Step();
  EXPECT_EQ(driver_.tokens(4).size(), 1u);
  EXPECT_EQ(driver_.work().prefill_tokens, 16u);
  EXPECT_EQ(driver_.tokens(1).size(), 3u) << "the decode goes on in every step";
  driver_.RunToEnd();
  ExpectAnswersAlone();
}

// The sampler's parameters of a draw.
TEST_F(SchedulerSharing, PenaltiesGetTheTokensSoFar) {
  EngineRequest request = Request(1, 70, 3);
  request.sampling.frequency_penalty = 0.5F;
  Submit(request);
  driver_.Step();
  EXPECT_TRUE(driver_.work().plan.sequences[0].history.empty()) << "nothing is drawn yet";
  driver_.Step();
  EXPECT_EQ(driver_.work().plan.sequences[0].history, request.prompt);
  driver_.Step();
  const shard::PlannedSequence& decode = driver_.work().plan.sequences[0];
  EXPECT_EQ(decode.history.size(), 71u);
  EXPECT_EQ(decode.history.back(), driver_.tokens(1)[0]);
  EXPECT_EQ(decode.num_prompt_tokens, 70u);
  driver_.RunToEnd();
}

}  // namespace
}  // namespace phi::service
