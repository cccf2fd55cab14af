#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "service/worker/scheduler.h"
#include "tests/unit/worker/fake_model.h"

// Random arrivals, cancellations and deadlines against a model whose answers are known for each
// request alone.
namespace phi::service {
namespace {

using std::chrono::milliseconds;

constexpr uint32_t kVocabulary = 211;
constexpr uint32_t kEos = 210;

struct Tracked {
  EngineRequest request;
  std::vector<uint32_t> tokens;
  bool ended = false;
  int end_count = 0;
};

// What the fake model answers to a request alone: I1 says that company must not change it.
std::vector<uint32_t> AnswerAlone(const EngineRequest& request) {
  std::vector<uint32_t> context = request.prompt;
  std::vector<uint32_t> answer;
  while (answer.size() < request.max_new_tokens) {
    const uint32_t token = FakeModel::NextToken(context, kVocabulary);
    answer.push_back(token);
    context.push_back(token);
    if (token == kEos && !request.ignore_eos) break;
    if (answer.size() > request.min_new_tokens && token % 97 == 5 &&
        !request.stop_token_ids.empty())
      break;
  }
  return answer;
}

class Simulation {
 public:
  explicit Simulation(uint64_t seed)
      : random_(seed),
        limits_(RandomLimits()),
        scheduler_(limits_, RandomChunks()),
        model_(limits_.num_kv_blocks, kVocabulary) {}

  void Run(int num_steps) {
    for (step_ = 0; step_ < num_steps && !testing::Test::HasFailure(); ++step_) {
      if (Chance(3)) Arrive();
      if (Chance(12)) CancelOne();
      if (Chance(40)) scheduler_.SetChunkLimits(chunks_ = RandomChunks());
      Step();
    }
    // FIFO without starvation: what is left ends within the steps that its tokens take, one request
    // after the other.
    for (int i = 0; !scheduler_.empty() && !testing::Test::HasFailure(); ++i) {
      ASSERT_LT(i, 200 * 64) << "starved";
      Step();
    }
    EXPECT_EQ(scheduler_.num_submitted(), scheduler_.num_ended());
    EXPECT_EQ(scheduler_.kv_counts().free, limits_.num_kv_blocks);
    for (const auto& [id, tracked] : requests_)
      EXPECT_EQ(tracked.end_count, 1) << "I3, request " << id;
  }

  uint64_t finished() const { return finished_; }

 private:
  bool Chance(uint32_t one_in) { return random_() % one_in == 0; }
  uint32_t Between(uint32_t low, uint32_t high) {
    return low + static_cast<uint32_t>(random_() % (high - low + 1));
  }

  SchedulerLimits RandomLimits() {
    const uint32_t max_sequences = Between(1, 9);
    return {.context_tokens = Between(40, 200),
            .vocabulary_tokens = kVocabulary,
            .eos_token_id = kEos,
            .max_sequences = max_sequences,
            .max_step_tokens = max_sequences + Between(0, 40),
            .num_kv_blocks = Between(6, 40),
            .max_queued_requests = Between(1, 20),
            .max_queued_tokens = Between(100, 1000)};
  }
  ChunkLimits RandomChunks() {
    chunks_.alone = Between(1, 64);
    chunks_.beside_decodes = Between(1, chunks_.alone);
    return chunks_;
  }

  void Arrive() {
    EngineRequest request;
    request.id = ++last_id_;
    request.prompt.resize(Between(1, limits_.context_tokens - 1));
    for (uint32_t& token : request.prompt) token = Between(0, kVocabulary - 1);
    request.max_new_tokens =
        Between(1, limits_.context_tokens - static_cast<uint32_t>(request.prompt.size()));
    request.min_new_tokens = Chance(3) ? Between(0, request.max_new_tokens) : 0;
    request.ignore_eos = Chance(4) || request.min_new_tokens > 0;  // the fake model does not mask
    if (Chance(3)) request.stop_token_ids = {5, 102, 199};
    request.arrival = now_;
    if (Chance(5)) request.time_limit_at = now_ + milliseconds(Between(0, 60));
    if (Chance(5)) request.call_deadline = now_ + milliseconds(Between(0, 60));
    if (!scheduler_.Submit(request).ok()) return;
    order_.push_back(request.id);
    requests_[request.id].request = std::move(request);
  }

  void CancelOne() {
    if (last_id_ == 0) return;
    const uint64_t id = Between(1, static_cast<uint32_t>(last_id_));
    const auto event = scheduler_.Cancel(id, now_);
    const auto found = requests_.find(id);
    const bool alive = found != requests_.end() && !found->second.ended;
    ASSERT_EQ(event.has_value(), alive) << "request " << id;
    if (event) Take({*event});
  }

  void Step() {
    now_ += milliseconds(1);
    Take(scheduler_.Expire(now_));
    StepWork work = scheduler_.Plan(now_);
    CheckWork(work);
    const auto events = scheduler_.Commit(work, model_.Run(work.plan), now_);
    ASSERT_TRUE(events.ok()) << events.status();
    Take(*events);
    const auto violations = scheduler_.CheckInvariants();
    ASSERT_TRUE(violations.empty()) << "step " << step_ << ": " << violations.front();
  }

  void CheckWork(const StepWork& work) {
    const shard::PlanLimits plan_limits{.vocab_size = kVocabulary,
                                        .max_positions = limits_.context_tokens,
                                        .num_blocks = limits_.num_kv_blocks,
                                        .max_sequences = limits_.max_sequences,
                                        .max_step_tokens = limits_.max_step_tokens};
    const absl::Status valid = shard::ValidateStepPlan(work.plan, plan_limits);
    ASSERT_TRUE(valid.ok()) << valid;
    const std::set<uint64_t> planned(work.request_ids.begin(), work.request_ids.end());
    ASSERT_EQ(planned.size(), work.request_ids.size());
    uint32_t decodes = 0;
    for (const auto& [id, tracked] : requests_) {
      if (tracked.ended || tracked.tokens.empty()) continue;
      ++decodes;
      ASSERT_TRUE(planned.contains(id)) << "decode of " << id << " stalled in step " << step_;
    }
    ASSERT_EQ(work.decode_tokens, decodes);
    ASSERT_LE(work.prefill_tokens, decodes > 0 ? chunks_.beside_decodes : chunks_.alone);
    ASSERT_EQ(work.idle(), scheduler_.empty()) << "work waits in an idle step";
    // First in, first out: none is in a step while an older one has not been in any.
    const auto started = [&](uint64_t id) { return started_.contains(id) || planned.contains(id); };
    bool all_older_started = true;
    for (uint64_t id : order_) {
      if (requests_[id].ended) continue;
      ASSERT_TRUE(all_older_started || !started(id)) << "request " << id << " overtook";
      all_older_started = all_older_started && started(id);
    }
    started_.insert(planned.begin(), planned.end());
  }

  void Take(const std::vector<RequestEvent>& events) {
    for (const RequestEvent& event : events) {
      Tracked& tracked = requests_.at(event.request_id);
      ASSERT_FALSE(tracked.ended) << "I3: request " << event.request_id;
      if (event.token) tracked.tokens.push_back(event.token->token_id);
      if (!event.end) continue;
      tracked.ended = true;
      ++tracked.end_count;
      ASSERT_EQ(event.end->generated_tokens, tracked.tokens.size());
      const auto alone = AnswerAlone(tracked.request);
      const bool whole = event.end->status.ok() && event.end->reason != FinishReason::kTimeLimit;
      ASSERT_LE(tracked.tokens.size(), alone.size());
      ASSERT_TRUE(std::equal(tracked.tokens.begin(), tracked.tokens.end(), alone.begin())) << "I1";
      if (whole) {
        ASSERT_EQ(tracked.tokens.size(), alone.size());
      }
      finished_ += whole ? 1 : 0;
    }
    std::erase_if(order_, [&](uint64_t id) { return requests_[id].ended; });
  }

  std::mt19937_64 random_;
  ChunkLimits chunks_;
  SchedulerLimits limits_;
  Scheduler scheduler_;
  FakeModel model_;
  SteadyTime now_ = SteadyTime() + std::chrono::hours(1);
  std::map<uint64_t, Tracked> requests_;
  std::vector<uint64_t> order_;  // of arrival, those not ended
  std::set<uint64_t> started_;
  uint64_t last_id_ = 0;
  uint64_t finished_ = 0;
  int step_ = 0;
};

TEST(SchedulerProperty, InvariantsHoldUnderRandomTraffic) {
  uint64_t finished = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Simulation simulation(seed);
    simulation.Run(400);
    finished += simulation.finished();
    if (HasFailure()) return;
  }
  EXPECT_GT(finished, 500u) << "the simulation must finish requests to prove anything";
}

}  // namespace
}  // namespace phi::service
