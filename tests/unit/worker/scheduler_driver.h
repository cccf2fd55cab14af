#pragma once

#include <gtest/gtest.h>

#include <map>
#include <utility>
#include <vector>

#include "service/worker/scheduler.h"
#include "tests/unit/worker/fake_model.h"

namespace phi::service {

// What the fake model answers to one sample of a request alone: I1 says that company, a cache hit
// or a preemption must not change it.
inline std::vector<uint32_t> AnswerAlone(const EngineRequest& request,
                                         const SchedulerLimits& limits,
                                         uint32_t sample) {
  std::vector<uint32_t> context = request.prompt;
  std::vector<uint32_t> answer;
  while (answer.size() < request.max_new_tokens) {
    const uint32_t token = FakeModel::NextToken(context, limits.vocabulary_tokens, sample);
    answer.push_back(token);
    context.push_back(token);
    if (token == limits.eos_token_id && !request.ignore_eos) break;
    const auto& stops = request.stop_token_ids;
    if (answer.size() > request.min_new_tokens &&
        std::find(stops.begin(), stops.end(), token) != stops.end())
      break;
  }
  return answer;
}

// A scheduler and a fake model in virtual time, a millisecond a step; I2 and I3 are checked after
// every call.
class SchedulerDriver {
 public:
  using SampleId = std::pair<uint64_t, uint32_t>;

  SchedulerDriver(const SchedulerLimits& limits, const ChunkLimits& chunks)
      : limits_(limits),
        scheduler_(limits, chunks),
        model_(limits.num_kv_blocks, limits.vocabulary_tokens) {}

  absl::Status Submit(const EngineRequest& request) {
    absl::Status status = scheduler_.Submit(request);
    Check();
    return status;
  }
  // One step; false where it was idle.
  bool Step() {
    now_ += std::chrono::milliseconds(1);
    work_ = scheduler_.Plan(now_);
    const absl::Status valid =
        shard::ValidateStepPlan(work_.plan,
                                {.vocab_size = limits_.vocabulary_tokens,
                                 .max_positions = limits_.context_tokens,
                                 .num_blocks = limits_.num_kv_blocks,
                                 .max_sequences = limits_.max_sequences,
                                 .max_step_tokens = limits_.max_step_tokens});
    EXPECT_TRUE(valid.ok()) << valid;
    auto events = scheduler_.Commit(work_, model_.Run(work_.plan), now_);
    EXPECT_TRUE(events.ok()) << events.status();
    if (events.ok()) Take(*events);
    Check();
    return !work_.idle();
  }
  void RunToEnd(int max_steps = 10'000) {
    while (!scheduler_.empty() && !testing::Test::HasFatalFailure()) {
      ASSERT_GT(max_steps--, 0) << "livelock";
      ASSERT_TRUE(Step()) << "deadlock";
    }
  }
  void Take(const std::vector<RequestEvent>& events) {
    for (const RequestEvent& event : events) {
      EXPECT_FALSE(ends_.contains(event.request_id)) << "I3: request " << event.request_id;
      const SampleId id{event.request_id, event.sample};
      if (event.token) {
        EXPECT_FALSE(finishes_.contains(id)) << "a token after its sample's end";
        tokens_[id].push_back(event.token->token_id);
      }
      if (event.sample_end) {
        EXPECT_TRUE(finishes_.emplace(id, *event.sample_end).second);
      }
      if (event.end) ends_.emplace(event.request_id, *event.end);
    }
  }
  void Check() const {
    for (const std::string& violation : scheduler_.CheckInvariants()) ADD_FAILURE() << violation;
  }

  Scheduler& scheduler() { return scheduler_; }
  const SchedulerLimits& limits() const { return limits_; }
  const StepWork& work() const { return work_; }
  SteadyTime now() const { return now_; }
  const std::vector<uint32_t>& tokens(uint64_t id, uint32_t sample = 0) {
    return tokens_[{id, sample}];
  }
  const std::map<uint64_t, RequestEnd>& ends() const { return ends_; }
  const std::map<SampleId, FinishReason>& finishes() const { return finishes_; }

 private:
  SchedulerLimits limits_;
  Scheduler scheduler_;
  FakeModel model_;
  StepWork work_;
  SteadyTime now_ = SteadyTime() + std::chrono::hours(1);
  std::map<SampleId, std::vector<uint32_t>> tokens_;
  std::map<SampleId, FinishReason> finishes_;
  std::map<uint64_t, RequestEnd> ends_;
};

}  // namespace phi::service
