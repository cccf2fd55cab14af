#include "service/worker/step_loop.h"

#include <gtest/gtest.h>

#include <atomic>
#include <numeric>
#include <string>
#include <thread>

#include "absl/synchronization/mutex.h"
#include "service/api/error.h"
#include "tests/unit/worker/fake_rank.h"
#include "tests/unit/worker/own_copy.h"

namespace phi::service {
namespace {

using std::chrono::milliseconds;

constexpr uint32_t kVocabulary = 211;

SchedulerLimits Limits() {
  return {.context_tokens = 200,
          .vocabulary_tokens = kVocabulary,
          .eos_token_id = 210,
          .max_sequences = 8,
          .max_step_tokens = 64,
          .num_kv_blocks = 64,
          .max_queued_requests = 8,
          .max_queued_tokens = 1000};
}

class RecordingSink : public TokenSink {
 public:
  void OnToken(uint32_t /*sample*/, shard::SampledToken token, const RequestTimes&) override {
    absl::MutexLock lock(&mutex_);
    EXPECT_FALSE(ended_) << "a token after the end";
    tokens_.push_back(token.token_id);
  }
  void OnSampleEnd(uint32_t /*sample*/, FinishReason /*reason*/) override {}
  void OnEnd(const RequestEnd& end) override {
    absl::MutexLock lock(&mutex_);
    EXPECT_FALSE(ended_) << "I3";
    end_ = end;
    end_.status = OwnCopy(end.status);
    ended_ = true;
  }
  RequestEnd WaitForEnd() {
    absl::MutexLock lock(&mutex_);
    EXPECT_TRUE(mutex_.AwaitWithTimeout(absl::Condition(&ended_), absl::Seconds(20)))
        << "never ended";
    return end_;
  }
  void WaitForTokens(size_t count) {
    const auto has = [&]()
                         ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return tokens_.size() >= count; };
    absl::MutexLock lock(&mutex_);
    EXPECT_TRUE(mutex_.AwaitWithTimeout(absl::Condition(&has), absl::Seconds(20)));
  }
  std::vector<uint32_t> tokens() {
    absl::MutexLock lock(&mutex_);
    return tokens_;
  }

 private:
  absl::Mutex mutex_;
  std::vector<uint32_t> tokens_ ABSL_GUARDED_BY(mutex_);
  RequestEnd end_ ABSL_GUARDED_BY(mutex_);
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

EngineRequest Request(uint64_t id, uint32_t prompt_tokens, uint32_t max_new_tokens) {
  EngineRequest request;
  request.id = id;
  request.prompt.resize(prompt_tokens);
  std::iota(request.prompt.begin(), request.prompt.end(), static_cast<uint32_t>(id % 50));
  request.max_new_tokens = max_new_tokens;
  request.ignore_eos = true;
  request.arrival = std::chrono::steady_clock::now();
  return request;
}

ErrorReason ReasonOf(const absl::Status& status) {
  const auto details = GetErrorDetails(status);
  return details ? details->reason : ErrorReason::kInternal;
}

class StepLoopTest : public testing::Test {
 protected:
  StepLoopTest()
      : page_(*MetricPage::Create(1)),
        metrics_(*page_),
        rank_({.vocab_size = kVocabulary,
               .max_positions = 200,
               .num_blocks = 64,
               .max_sequences = 8,
               .max_step_tokens = 64},
              kVocabulary),
        loop_(
            {.limits = Limits(), .idle_interval = milliseconds(20)},
            &rank_,
            [this](const shard::StepPlan&) {
              ++broadcasts_;
              return broadcast_fails_ ? absl::UnavailableError("rank 1 is gone") : absl::OkStatus();
            },
            &metrics_) {}

  std::shared_ptr<RecordingSink> Submit(EngineRequest request) {
    auto sink = std::make_shared<RecordingSink>();
    const absl::Status status = loop_.Submit(std::move(request), sink);
    EXPECT_TRUE(status.ok()) << status;
    return sink;
  }
  double Metric(MetricId id, std::initializer_list<LabelIndex> labels = {}) {
    return page_->Get(id, labels).Value();
  }

  std::unique_ptr<MetricPage> page_;
  LeaderMetrics metrics_;
  FakeRank rank_;
  std::atomic<int> broadcasts_{0};
  std::atomic<bool> broadcast_fails_{false};
  StepLoop loop_;
};

TEST_F(StepLoopTest, Row65_AFloodLeavesPlacesBeforeAnyStepSeesIt) {
  // Nothing has started: all of it lies in the inbox. 8 seats, 8 places.
  ASSERT_TRUE(loop_.WarmUp().ok());
  uint64_t id = 0;
  const auto submit = [&](const std::string& caller) {
    EngineRequest request = Request(++id, 10, 1);
    request.caller = caller;
    return loop_.Submit(std::move(request), std::make_shared<RecordingSink>());
  };
  while (submit("flood").ok()) ASSERT_LT(id, 100u);
  EXPECT_EQ(id, 8u + 7u + 1u);
  EXPECT_EQ(ReasonOf(submit("flood")), ErrorReason::kQueueFull);
  EXPECT_TRUE(submit("another").ok());
  loop_.Start();
}

TEST_F(StepLoopTest, AnswersTheSameAloneAndInCompany) {
  ASSERT_TRUE(loop_.WarmUp().ok());
  loop_.Start();
  auto alone = Submit(Request(1, 100, 40));
  EXPECT_TRUE(alone->WaitForEnd().status.ok());
  std::vector<std::shared_ptr<RecordingSink>> company;
  for (uint64_t id = 51; id < 59; ++id) company.push_back(Submit(Request(id, 100, 40)));
  for (auto& sink : company) EXPECT_EQ(sink->WaitForEnd().reason, FinishReason::kMaxNewTokens);
  EXPECT_EQ(company[0]->tokens(), alone->tokens());
  EXPECT_EQ(alone->tokens().size(), 40u);
  EXPECT_EQ(Metric(MetricId::kGeneratedTokensTotal), 9 * 40);
  EXPECT_EQ(Metric(MetricId::kPromptTokensTotal), 9 * 100);
  EXPECT_EQ(Metric(MetricId::kTimeToFirstTokenSeconds), 9);
  EXPECT_EQ(Metric(MetricId::kInterTokenSeconds), 9 * 39);
  EXPECT_EQ(Metric(MetricId::kRequestDurationSeconds, {FinishLabel::kMaxNewTokens}), 9);
}

TEST_F(StepLoopTest, IdleLoopSendsPlansAndWakesAtOnce) {
  loop_.Start();
  while (rank_.idle_steps() < 3) std::this_thread::sleep_for(milliseconds(1));
  EXPECT_GE(broadcasts_, 3);
  EXPECT_TRUE(Submit(Request(1, 4, 1))->WaitForEnd().status.ok());
}

TEST_F(StepLoopTest, WarmUpBoundsAStepByTheStallLimit) {
  rank_.step_us = 20'000;
  StepLoop loop(
      {.limits = Limits(), .stall_limit = milliseconds(40)},
      &rank_,
      [](const shard::StepPlan&) { return absl::OkStatus(); },
      &metrics_);
  ASSERT_TRUE(loop.WarmUp().ok());
  // 32 tokens took 20 ms at least, so a quarter of 40 ms holds 16 at most.
  EXPECT_LE(loop.chunk_limits().alone, 16u);
  EXPECT_GE(loop.chunk_limits().alone, 1u);
  EXPECT_GE(loop.load().deadline_margin, milliseconds(40));
}

TEST_F(StepLoopTest, CancelEndsWithinAStepAndRacesNothing) {
  rank_.step_us = 20'000;
  loop_.Start();
  auto running = Submit(Request(1, 4, 150));
  running->WaitForTokens(2);
  loop_.Cancel(1);
  EXPECT_EQ(running->WaitForEnd().status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(Metric(MetricId::kCancelledTotal, {StageLabel::kDecode}), 1);
  auto at_once = Submit(Request(2, 4, 150));
  loop_.Cancel(2);
  EXPECT_EQ(at_once->WaitForEnd().status.code(), absl::StatusCode::kCancelled);
  auto done = Submit(Request(3, 4, 1));
  EXPECT_TRUE(done->WaitForEnd().status.ok());
  loop_.Cancel(3);
  loop_.Cancel(77);
  EXPECT_TRUE(Submit(Request(4, 4, 1))->WaitForEnd().status.ok());
}

TEST_F(StepLoopTest, SampleThatIsEndedEndsItsRequestAsOk) {
  rank_.step_us = 20'000;
  loop_.Start();
  auto running = Submit(Request(1, 4, 150));
  running->WaitForTokens(2);
  loop_.EndSample(1, 0, FinishReason::kStopString);
  const RequestEnd end = running->WaitForEnd();
  EXPECT_TRUE(end.status.ok()) << end.status;
  EXPECT_EQ(end.reason, FinishReason::kStopString);
  EXPECT_LT(end.generated_tokens, 150u);
  loop_.EndSample(1, 0, FinishReason::kStopString);
  EXPECT_TRUE(Submit(Request(2, 4, 1))->WaitForEnd().status.ok());
}

TEST_F(StepLoopTest, RefusesAtOnceWhenFull) {
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (uint64_t id = 1; id <= 16; ++id) {
    EngineRequest request = Request(id, 4, 30);
    request.caller = std::to_string(id);  // who has something waiting may not take the last place
    sinks.push_back(Submit(request));
  }
  EXPECT_EQ(ReasonOf(loop_.Submit(Request(17, 4, 30), std::make_shared<RecordingSink>())),
            ErrorReason::kQueueFull);
  EXPECT_EQ(ReasonOf(loop_.Submit(Request(17, 199, 30), std::make_shared<RecordingSink>())),
            ErrorReason::kContextExceeded);
  loop_.Start();
  for (auto& sink : sinks) EXPECT_TRUE(sink->WaitForEnd().status.ok());
}

TEST_F(StepLoopTest, DrainFinishesWhatRunsAndSendsTheQueueAway) {
  rank_.step_us = 50'000;
  loop_.Start();
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (uint64_t id = 1; id <= 8; ++id) sinks.push_back(Submit(Request(id, 4, 120)));
  for (auto& sink : sinks) sink->WaitForTokens(1);
  auto queued = Submit(Request(9, 4, 30));
  loop_.Drain(std::chrono::steady_clock::now() + std::chrono::seconds(20));
  rank_.step_us = 200;
  EXPECT_EQ(ReasonOf(queued->WaitForEnd().status), ErrorReason::kDraining);
  EXPECT_EQ(ReasonOf(loop_.Submit(Request(10, 4, 1), queued)), ErrorReason::kDraining);
  EXPECT_TRUE(loop_.load().draining);
  EXPECT_TRUE(loop_.Wait().ok());
  for (auto& sink : sinks) EXPECT_EQ(sink->tokens().size(), 120u);
}

TEST_F(StepLoopTest, DrainTimeoutEndsTheRest) {
  rank_.step_us = 20'000;
  loop_.Start();
  auto sink = Submit(Request(1, 4, 190));
  sink->WaitForTokens(1);
  loop_.Drain(std::chrono::steady_clock::now() + milliseconds(50));
  EXPECT_EQ(ReasonOf(sink->WaitForEnd().status), ErrorReason::kDrainTimeout);
  EXPECT_TRUE(loop_.Wait().ok());
}

TEST_F(StepLoopTest, DrainOfAnIdleLoopEndsAtOnce) {
  loop_.Start();
  loop_.Drain(std::chrono::steady_clock::now() + std::chrono::seconds(20));
  EXPECT_TRUE(loop_.Wait().ok());
}

TEST_F(StepLoopTest, LostStepEndsEveryRequestOnce) {
  rank_.fail_after = 20;
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (uint64_t id = 1; id <= 12; ++id) sinks.push_back(Submit(Request(id, 4, 100)));
  loop_.Start();
  EXPECT_EQ(loop_.Wait().code(), absl::StatusCode::kUnavailable);
  for (auto& sink : sinks)
    EXPECT_EQ(ReasonOf(sink->WaitForEnd().status), ErrorReason::kReplicaLost);
  EXPECT_EQ(ReasonOf(loop_.Submit(Request(20, 4, 1), sinks[0])), ErrorReason::kReplicaLost);
  EXPECT_EQ(Metric(MetricId::kRequestsRunning), 0);
  EXPECT_EQ(Metric(MetricId::kKvUsageRatio), 0);
}

TEST_F(StepLoopTest, LostBroadcastIsALostReplica) {
  broadcast_fails_ = true;
  loop_.Start();
  EXPECT_EQ(loop_.Wait().code(), absl::StatusCode::kUnavailable);
}

TEST_F(StepLoopTest, PrefixHitsPreemptionsAndBlocksAreCounted) {
  loop_.Start();
  EXPECT_EQ(Submit(Request(1, 100, 2))->WaitForEnd().cached_prompt_tokens, 0u);
  EXPECT_EQ(Submit(Request(51, 100, 2))->WaitForEnd().cached_prompt_tokens, 96u);
  EXPECT_EQ(Metric(MetricId::kPromptTokensTotal), 200);
  EXPECT_EQ(Metric(MetricId::kPrefixHitTokensTotal), 96);
  // 64 blocks for 8 times 13.
  rank_.step_us = 20'000;
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (uint64_t id = 2; id < 10; ++id) sinks.push_back(Submit(Request(id, 4, 196)));
  rank_.step_us = 200;
  for (auto& sink : sinks) EXPECT_TRUE(sink->WaitForEnd().status.ok());
  EXPECT_GT(Metric(MetricId::kPreemptionsTotal), 0);
  EXPECT_GT(Metric(MetricId::kWastedTokensTotal, {WasteLabel::kPreempted}), 0);
  const SteadyTime deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (loop_.load().kv.owned != 0 && std::chrono::steady_clock::now() < deadline)
    std::this_thread::sleep_for(milliseconds(1));
  const KvBlockPool::Counts kv = loop_.load().kv;
  EXPECT_EQ(kv.owned, 0u);
  EXPECT_EQ(Metric(MetricId::kKvBlocks, {KvBlockLabel::kOwned}), 0);
  EXPECT_EQ(Metric(MetricId::kKvBlocks, {KvBlockLabel::kCached}), kv.cached);
  EXPECT_EQ(Metric(MetricId::kKvBlocks, {KvBlockLabel::kFree}), 64 - kv.cached);
}

}  // namespace
}  // namespace phi::service
