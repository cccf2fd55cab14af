// The step loop under many threads: submissions, cancellations, ended samples and a drain race each
// other and the steps. Its scheduler's own property is the simulation's; here it is that nothing is
// lost between threads.
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>

#include "absl/synchronization/mutex.h"
#include "service/worker/step_loop.h"
#include "tests/unit/worker/fake_rank.h"
#include "tests/unit/worker/own_copy.h"
#include "tests/unit/worker/scheduler_driver.h"

namespace phi::service {
namespace {

constexpr uint32_t kVocabulary = 211;

SchedulerLimits Limits() {
  return {.context_tokens = 200,
          .vocabulary_tokens = kVocabulary,
          .eos_token_id = 210,
          .max_sequences = 8,
          .max_step_tokens = 64,
          .num_kv_blocks = 24,
          .max_queued_requests = 16,
          .max_queued_tokens = 2000};
}

std::atomic<int64_t> sinks_created{0};
std::atomic<int64_t> sinks_destroyed{0};

class CountedSink : public TokenSink {
 public:
  explicit CountedSink(uint32_t num_samples) : tokens_(num_samples) { ++sinks_created; }
  ~CountedSink() override { ++sinks_destroyed; }

  void OnToken(uint32_t sample, shard::SampledToken token, const RequestTimes&) override {
    absl::MutexLock lock(&mutex_);
    EXPECT_FALSE(ended_) << "a token after the end";
    tokens_.at(sample).push_back(token.token_id);
  }
  void OnSampleEnd(uint32_t sample, FinishReason) override {
    absl::MutexLock lock(&mutex_);
    EXPECT_FALSE(ended_);
    EXPECT_FALSE(tokens_.at(sample).empty());
  }
  void OnEnd(const RequestEnd& end) override {
    absl::MutexLock lock(&mutex_);
    EXPECT_FALSE(ended_) << "I3";
    ended_ = true;
    end_ = end;
    end_.status = OwnCopy(end.status);
  }
  bool WaitForToken() {
    const auto has = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return ended_ || !tokens_[0].empty();
    };
    absl::MutexLock lock(&mutex_);
    return mutex_.AwaitWithTimeout(absl::Condition(&has), absl::Seconds(60));
  }
  RequestEnd WaitForEnd() {
    absl::MutexLock lock(&mutex_);
    EXPECT_TRUE(mutex_.AwaitWithTimeout(absl::Condition(&ended_), absl::Seconds(60)))
        << "never ended";
    return end_;
  }
  std::vector<uint32_t> tokens(uint32_t sample) {
    absl::MutexLock lock(&mutex_);
    return tokens_.at(sample);
  }

 private:
  absl::Mutex mutex_;
  std::vector<std::vector<uint32_t>> tokens_ ABSL_GUARDED_BY(mutex_);
  RequestEnd end_ ABSL_GUARDED_BY(mutex_);
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

EngineRequest RandomRequest(uint64_t id, std::mt19937& random) {
  const auto below = [&](uint32_t bound) { return static_cast<uint32_t>(random() % bound); };
  EngineRequest request;
  request.id = id;
  request.prompt.assign(1 + below(60), 1 + below(3));
  request.max_new_tokens = 1 + below(60);
  request.num_samples = below(3) == 0 ? 1 + below(4) : 1;
  request.ignore_eos = true;
  request.caller = below(2) == 0 ? "a" : "b";
  request.arrival = std::chrono::steady_clock::now();
  return request;
}

void ExpectAnswer(const EngineRequest& request, const RequestEnd& end, CountedSink& sink) {
  for (uint32_t sample = 0; sample < request.num_samples; ++sample) {
    const std::vector<uint32_t> alone = AnswerAlone(request, Limits(), sample);
    const std::vector<uint32_t> tokens = sink.tokens(sample);
    ASSERT_LE(tokens.size(), alone.size());
    EXPECT_TRUE(std::equal(tokens.begin(), tokens.end(), alone.begin())) << "I1";
    if (end.reason == FinishReason::kMaxNewTokens && request.num_samples == 1 && end.status.ok()) {
      EXPECT_EQ(tokens.size(), alone.size());
    }
  }
}

class StepLoopRace : public testing::Test {
 protected:
  StepLoopRace()
      : page_(*MetricPage::Create(1)),
        metrics_(*page_),
        rank_({.vocab_size = kVocabulary,
               .max_positions = 200,
               .num_blocks = 24,
               .max_sequences = 8,
               .max_step_tokens = 64},
              kVocabulary) {
    rank_.step_us = 20;
  }

  // Submits and ends requests in every way; how many were cancelled.
  int Caller(StepLoop& loop, uint32_t seed, int num_requests) {
    std::mt19937 random(seed);
    int cancelled = 0;
    for (int i = 0; i < num_requests; ++i) {
      const EngineRequest request = RandomRequest(next_id_++, random);
      auto sink = std::make_shared<CountedSink>(request.num_samples);
      if (!loop.Submit(request, sink).ok()) continue;
      const auto way = static_cast<uint32_t>(random() % 4);
      if (way == 1) {
        EXPECT_TRUE(sink->WaitForToken());
      }
      if (way <= 1) loop.Cancel(request.id);
      if (way == 2)
        loop.EndSample(request.id, static_cast<uint32_t>(random() % 5), FinishReason::kStopString);
      const RequestEnd end = sink->WaitForEnd();
      cancelled += absl::IsCancelled(end.status) ? 1 : 0;
      ExpectAnswer(request, end, *sink);
    }
    return cancelled;
  }

  std::unique_ptr<MetricPage> page_;
  LeaderMetrics metrics_;
  FakeRank rank_;
  std::atomic<uint64_t> next_id_{1};
};

TEST_F(StepLoopRace, Row28_CancellationsRaceEverything) {
  constexpr int kThreads = 8;
  constexpr int kRequests = 250;
  std::atomic<int> cancelled{0};
  {
    StepLoop loop(
        {.limits = Limits()},
        &rank_,
        [](const shard::StepPlan&) { return absl::OkStatus(); },
        &metrics_);
    loop.Start();
    std::vector<std::thread> threads;
    for (uint32_t seed = 0; seed < kThreads; ++seed)
      threads.emplace_back([&, seed] { cancelled += Caller(loop, seed, kRequests); });
    for (std::thread& thread : threads) thread.join();
    loop.Drain(std::chrono::steady_clock::now() + std::chrono::seconds(60));
    EXPECT_TRUE(loop.Wait().ok());
    EXPECT_EQ(loop.load().kv.owned, 0u);
    EXPECT_EQ(loop.load().occupancy.running_requests, 0u);
  }
  EXPECT_EQ(sinks_created, sinks_destroyed);
  EXPECT_GT(cancelled, kThreads * kRequests / 8);
}

TEST_F(StepLoopRace, DrainRacesSubmissions) {
  for (uint32_t round = 0; round < 20; ++round) {
    FakeRank rank({.vocab_size = kVocabulary,
                   .max_positions = 200,
                   .num_blocks = 24,
                   .max_sequences = 8,
                   .max_step_tokens = 64},
                  kVocabulary);
    rank.step_us = 20;
    StepLoop loop(
        {.limits = Limits()},
        &rank,
        [](const shard::StepPlan&) { return absl::OkStatus(); },
        &metrics_);
    loop.Start();
    std::vector<std::thread> threads;
    for (uint32_t seed = 0; seed < 4; ++seed)
      threads.emplace_back([&, seed] { Caller(loop, 100 * round + seed, 15); });
    loop.Drain(std::chrono::steady_clock::now() + std::chrono::seconds(60));
    EXPECT_TRUE(loop.Wait().ok());
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(loop.load().kv.owned, 0u);
  }
  EXPECT_EQ(sinks_created, sinks_destroyed);
}

}  // namespace
}  // namespace phi::service
