#include "tests/sim/simulation.h"

#include <algorithm>

#include "service/api/error.h"

namespace phi::service {
namespace {

using std::chrono::milliseconds;

constexpr uint32_t kVocabulary = 211;
constexpr uint32_t kEos = 210;

}  // namespace

void SimulationCounts::Add(const SimulationCounts& other) {
  finished += other.finished;
  cancelled_queued += other.cancelled_queued;
  cancelled_prefill += other.cancelled_prefill;
  cancelled_decode += other.cancelled_decode;
  expired_queued += other.expired_queued;
  expired_decode += other.expired_decode;
  samples_ended += other.samples_ended;
  failed += other.failed;
  preemptions += other.preemptions;
  prefix_hit_tokens += other.prefix_hit_tokens;
  block_copies += other.block_copies;
}

Simulation::Simulation(uint64_t seed, uint32_t cancel_one_in)
    : random_(seed), cancel_one_in_(cancel_one_in), driver_(RandomLimits(), RandomChunks()) {
  for (int i = 0; i < 4; ++i) {
    std::vector<uint32_t>& beginning = beginnings_.emplace_back(Between(1, 120));
    for (uint32_t& token : beginning) token = Between(0, kVocabulary - 1);
  }
}

SchedulerLimits Simulation::RandomLimits() {
  const uint32_t max_sequences = Between(1, 9);
  return {.context_tokens = Between(40, 200),
          .vocabulary_tokens = kVocabulary,
          .eos_token_id = kEos,
          .max_sequences = max_sequences,
          .max_step_tokens = max_sequences + Between(0, 60),
          .num_kv_blocks = Between(6, Chance(2) ? 14 : 40),
          .max_queued_requests = Between(1, 20),
          .max_queued_tokens = Between(100, 1000),
          .prefix_cache = !Chance(6)};
}

ChunkLimits Simulation::RandomChunks() {
  chunks_.alone = Between(1, 64);
  chunks_.beside_decodes = Between(1, chunks_.alone);
  return chunks_;
}

EngineRequest Simulation::RandomRequest() {
  const uint32_t context = driver_.limits().context_tokens;
  EngineRequest request;
  request.id = ++last_id_;
  request.prompt = beginnings_[Between(0, 3)];
  request.prompt.resize(Between(0, static_cast<uint32_t>(request.prompt.size())));
  for (uint32_t i = Between(1, 20); i > 0; --i)
    request.prompt.push_back(Between(0, kVocabulary - 1));
  request.prompt.resize(std::min<size_t>(request.prompt.size(), context - 1));
  const auto room = context - static_cast<uint32_t>(request.prompt.size());
  request.max_new_tokens = Between(1, Chance(4) ? room : std::min(room, 30U));
  request.min_new_tokens = Chance(3) ? Between(0, request.max_new_tokens) : 0;
  request.ignore_eos = Chance(4) || request.min_new_tokens > 0;  // the fake model does not mask
  if (Chance(3)) request.stop_token_ids = {5, 102, 199};
  request.num_samples = Chance(3) ? Between(1, Chance(4) ? 16 : 4) : 1;
  request.caller = std::string(Between(0, 3), 'c');
  request.cache_salt = Chance(4) ? "salt" : "";
  request.arrival = driver_.now();
  if (Chance(5)) request.time_limit_at = driver_.now() + milliseconds(Between(0, 80));
  if (Chance(5)) request.call_deadline = driver_.now() + milliseconds(Between(0, 80));
  return request;
}

void Simulation::Arrive() {
  const EngineRequest request = RandomRequest();
  if (!driver_.Submit(request).ok()) return;
  alive_[request.id] = {.request = request, .stopped = std::vector<bool>(request.num_samples)};
}

uint64_t Simulation::RandomAlive() {
  auto found = alive_.lower_bound(Between(0, static_cast<uint32_t>(last_id_)));
  return found == alive_.end() ? 0 : found->first;
}

void Simulation::CancelOne() {
  // Also of what has ended, or never was.
  const uint64_t id = Chance(8) ? Between(0, static_cast<uint32_t>(last_id_) + 1) : RandomAlive();
  const auto event = driver_.scheduler().Cancel(id, driver_.now());
  ASSERT_EQ(event.has_value(), alive_.contains(id)) << "request " << id;
  driver_.Check();
  if (event) Take({*event});
}

void Simulation::StopOne() {
  const uint64_t id = RandomAlive();
  if (id == 0) return;
  Expected& expected = alive_.at(id);
  const uint32_t sample = Between(0, expected.request.num_samples - 1);
  const bool has_text = !driver_.tokens(id, sample).empty();
  const bool goes_on =
      has_text && !driver_.finishes().contains({id, sample}) && !expected.stopped[sample];
  const auto event =
      driver_.scheduler().EndSample(id, sample, FinishReason::kStopString, driver_.now());
  driver_.Check();
  if (goes_on) {
    expected.stopped[sample] = true;
    ++counts_.samples_ended;
  } else {
    ASSERT_FALSE(event) << "request " << id << ", sample " << sample;
  }
  if (event) Take({*event});
}

void Simulation::LoseReplica() {
  driver_.scheduler().Plan(driver_.now());  // and its step fails
  Take(driver_.scheduler().FailAll(absl::UnavailableError("lost"), driver_.now()));
  driver_.Check();
  ASSERT_TRUE(driver_.scheduler().empty() && alive_.empty());
  ASSERT_EQ(driver_.scheduler().kv_counts().owned, 0u);
}

void Simulation::Run(int num_steps) {
  for (int step = 0; step < num_steps && !testing::Test::HasFailure(); ++step) {
    if (Chance(2)) Arrive();
    if (Chance(cancel_one_in_)) CancelOne();
    if (Chance(10)) StopOne();
    if (Chance(40)) driver_.scheduler().SetChunkLimits(RandomChunks());
    if (Chance(400)) LoseReplica();
    if (Chance(400)) {
      Take(driver_.scheduler().FailWaiting(absl::UnavailableError("draining"), driver_.now()));
      ASSERT_EQ(driver_.scheduler().occupancy().waiting_requests, 0u);
    }
    Step();
  }
  // No livelock: what is left ends within the steps that its tokens take, one after the other, and
  // each again for every preemption.
  for (int i = 0; !driver_.scheduler().empty() && !testing::Test::HasFailure(); ++i) {
    ASSERT_LT(i, 50'000) << "livelock";
    Step();
  }
  const SchedulerCounts& counts = driver_.scheduler().counts();
  EXPECT_TRUE(alive_.empty());
  EXPECT_EQ(counts.submitted, counts.ended);
  EXPECT_EQ(driver_.ends().size(), counts.submitted) << "I3";
  EXPECT_EQ(driver_.scheduler().kv_counts().owned, 0u);
  counts_.preemptions = counts.preemptions;
  counts_.prefix_hit_tokens = counts.prefix_hit_tokens;
}

void Simulation::Step() {
  Take(driver_.scheduler().Expire(driver_.now()));
  driver_.Check();
  const bool had_work = !driver_.scheduler().empty();
  ASSERT_EQ(driver_.Step(), had_work) << "work waits in an idle step";
  CheckPlan();
  TakeEnds();
}

void Simulation::CheckPlan() {
  const StepWork& work = driver_.work();
  counts_.block_copies += work.plan.block_copies.size();
  ASSERT_LE(work.prefill_tokens, work.decode_tokens > 0 ? chunks_.beside_decodes : chunks_.alone);
  // Nobody writes where another one writes or reads.
  std::map<uint32_t, size_t> users;
  for (const shard::PlannedSequence& planned : work.plan.sequences) {
    for (uint32_t block : planned.block_ids) ++users[block];
  }
  for (const shard::PlannedSequence& planned : work.plan.sequences) {
    for (size_t i = planned.first_position / kernels::kKvBlockTokens; i < planned.block_ids.size();
         ++i)
      ASSERT_EQ(users[planned.block_ids[i]], 1u) << "I2: block " << planned.block_ids[i];
  }
}

void Simulation::Take(const std::vector<RequestEvent>& events) {
  driver_.Take(events);
  TakeEnds();
}

void Simulation::TakeEnds() {
  if (driver_.ends().size() == ends_seen_) return;
  ends_seen_ = driver_.ends().size();
  for (auto next = alive_.begin(); next != alive_.end();) {
    const auto end = driver_.ends().find(next->first);
    if (end == driver_.ends().end()) {
      ++next;
      continue;
    }
    CheckEnd(next->second, end->second);
    CountEnd(end->second);
    next = alive_.erase(next);
  }
}

void Simulation::CheckEnd(const Expected& expected, const RequestEnd& end) {
  const EngineRequest& request = expected.request;
  uint32_t num_generated = 0;
  for (uint32_t sample = 0; sample < request.num_samples; ++sample) {
    const std::vector<uint32_t>& tokens = driver_.tokens(request.id, sample);
    const std::vector<uint32_t> alone = AnswerAlone(request, driver_.limits(), sample);
    num_generated += static_cast<uint32_t>(tokens.size());
    ASSERT_LE(tokens.size(), alone.size());
    ASSERT_TRUE(std::equal(tokens.begin(), tokens.end(), alone.begin()))
        << "I1: request " << request.id << ", sample " << sample;
    const auto finish = driver_.finishes().find({request.id, sample});
    const bool finished = finish != driver_.finishes().end();
    if (finished && finish->second != FinishReason::kTimeLimit) {
      ASSERT_EQ(tokens.size(), alone.size());
    }
    ASSERT_FALSE(finished && expected.stopped[sample]);
    if (end.status.ok()) {
      ASSERT_TRUE(finished || expected.stopped[sample]) << "a sample was lost";
    }
  }
  ASSERT_EQ(end.generated_tokens, num_generated);
  ASSERT_LT(end.cached_prompt_tokens, request.prompt.size());
}

void Simulation::CountEnd(const RequestEnd& end) {
  if (absl::IsCancelled(end.status)) {
    ++(end.stage == RequestStage::kQueued    ? counts_.cancelled_queued
       : end.stage == RequestStage::kPrefill ? counts_.cancelled_prefill
                                             : counts_.cancelled_decode);
  } else if (absl::IsDeadlineExceeded(end.status)) {
    ++counts_.expired_queued;
  } else if (!end.status.ok()) {
    ++counts_.failed;
  } else {
    ++(end.reason == FinishReason::kTimeLimit ? counts_.expired_decode : counts_.finished);
  }
}

}  // namespace phi::service
