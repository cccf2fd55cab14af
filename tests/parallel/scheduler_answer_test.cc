// I1 through the real scheduler and the real model: tokens and log-probabilities are the same bits
// with and without a prefix-cache hit, a preemption or siblings that share the prefill. The
// reference runs each sample alone, without the scheduler.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "service/worker/scheduler.h"
#include "tests/parallel/rank_group.h"
#include "tools/make_checkpoint/random_checkpoint.h"

namespace phi::service {
namespace {

constexpr uint32_t kNumRealTokens = 515;
constexpr uint32_t kContext = 128;
constexpr uint32_t kMaxStepTokens = 48;
constexpr uint32_t kMaxSequences = 6;

const tools::ModelShape kShape{.vocab_size = 523,
                               .hidden_size = 80,
                               .intermediate_size = 137,
                               .num_hidden_layers = 2,
                               .num_attention_heads = 4,
                               .num_key_value_heads = 2,
                               .head_dim = 20,
                               .max_position_embeddings = kContext};

using SampleId = std::pair<uint64_t, uint32_t>;
using Answers = std::map<SampleId, std::vector<shard::SampledToken>>;

// Prompts with a common beginning of several blocks; greedy and seeded draws, penalties, samples.
std::vector<EngineRequest> MakeRequests() {
  std::mt19937 random(29);
  const auto token = [&] { return static_cast<uint32_t>(random() % kNumRealTokens); };
  std::vector<uint32_t> beginning(45);
  for (uint32_t& id : beginning) id = token();
  std::vector<EngineRequest> requests;
  // On the host harness fewer and shorter ones, which still hit, share and preempt.
  const uint32_t num_requests = shard::IsEmulated() ? 5 : 10;
  const uint32_t num_tokens = shard::IsEmulated() ? 12 : 20;
  for (uint64_t i = 0; i < num_requests; ++i) {
    EngineRequest& request = requests.emplace_back();
    request.id = i + 1;
    request.prompt.assign(beginning.begin(), beginning.begin() + (i % 3 == 2 ? 20 : 45));
    for (size_t extra = 1 + random() % 30; extra > 0; --extra) request.prompt.push_back(token());
    request.max_new_tokens = num_tokens + static_cast<uint32_t>(i);
    request.ignore_eos = true;
    request.num_samples = i % 3 == 0 ? 3 : 1;
    request.caller = i % 2 == 0 ? "even" : "odd";
    request.sampling = {.num_top_logprobs = 3, .want_logprobs = true};
    if (i % 4 != 0) {
      request.sampling.temperature = 0.9F;
      request.sampling.top_p = 0.95F;
      request.sampling.seed = 1000 + i;
    }
    if (i % 4 == 3) request.sampling.repetition_penalty = 1.2F;
  }
  return requests;
}

struct GroupCase {
  kernels::DType dtype;
  int world_size;
};

class SchedulerAnswer : public testing::TestWithParam<GroupCase> {
 protected:
  void SetUp() override {
    if (GetParam().world_size > shard::MostRanks())
      GTEST_SKIP() << shard::MostRanks() << " devices";
    const absl::Status made = tools::WriteRandomCheckpoint(
        {.dir = dir_.path(), .shape = kShape, .seed = 5, .tokenizer_path = "", .on_progress = {}});
    ASSERT_TRUE(made.ok()) << made;
  }

  shard::GroupOptions Options(uint32_t num_kv_blocks) const {
    return {.model_dir = dir_.path(),
            .world_size = GetParam().world_size,
            .make_rank = shard::InvariantRanks(GetParam().dtype).back().maker(1),
            .num_real_tokens = kNumRealTokens,
            .limits = {.max_sequences = kMaxSequences,
                       .max_step_tokens = kMaxStepTokens + kContext,
                       .num_kv_blocks = num_kv_blocks}};
  }

  // Each sample as a request of its own, alone, its prompt in one step.
  Answers Alone(const std::vector<EngineRequest>& requests) const {
    shard::RankGroup group(Options(kContext / kernels::kKvBlockTokens));
    Answers answers;
    for (const EngineRequest& request : requests) {
      for (uint32_t sample = 0; sample < request.num_samples; ++sample) {
        shard::Prompt prompt{.ids = request.prompt,
                             .sampling = request.sampling,
                             .num_new_tokens = request.max_new_tokens};
        prompt.sampling.sample_index = sample;
        answers[{request.id, sample}] =
            shard::Generate(group, {prompt}, {}, kContext / kernels::kKvBlockTokens)[0];
      }
    }
    return answers;
  }

  struct Run {
    Answers answers;
    SchedulerCounts counts;
  };
  // All of them at once, through the scheduler.
  Run Together(const std::vector<EngineRequest>& requests, bool prefix_cache, uint32_t num_blocks) {
    shard::RankGroup group(Options(num_blocks));
    Scheduler scheduler({.context_tokens = kContext,
                         .vocabulary_tokens = kNumRealTokens,
                         .eos_token_id = 0,
                         .max_sequences = kMaxSequences,
                         .max_step_tokens = kMaxStepTokens,
                         .num_kv_blocks = num_blocks,
                         .max_queued_requests = 100,
                         .max_queued_tokens = 10'000,
                         .prefix_cache = prefix_cache},
                        {.alone = 40, .beside_decodes = 24});
    for (const EngineRequest& request : requests) EXPECT_TRUE(scheduler.Submit(request).ok());
    Run run;
    for (int step = 0; !scheduler.empty() && step < 5000 && !HasFailure(); ++step) {
      const StepWork work = scheduler.Plan({});
      absl::StatusOr<shard::StepResult> result = group.Execute(work.plan);
      EXPECT_TRUE(result.ok()) << result.status();
      if (!result.ok()) break;
      const auto events = scheduler.Commit(work, *result, {});
      EXPECT_TRUE(events.ok()) << events.status();
      if (!events.ok()) break;
      for (const RequestEvent& event : *events) {
        if (!event.token) continue;
        shard::SampledToken token = *event.token;
        // Where it stood in its step is no part of the answer.
        token.sequence_index = 0;
        token.draw_index = 0;
        run.answers[{event.request_id, event.sample}].push_back(std::move(token));
      }
      EXPECT_TRUE(scheduler.CheckInvariants().empty());
    }
    run.counts = scheduler.counts();
    return run;
  }

  static void ExpectEqual(const Answers& alone, const Answers& together) {
    ASSERT_EQ(alone.size(), together.size());
    for (const auto& [id, answer] : alone) {
      EXPECT_TRUE(together.at(id) == answer) << "request " << id.first << ", sample " << id.second;
    }
  }

  shard::TemporaryDir dir_;
};

TEST_P(SchedulerAnswer, SameBitsWithPrefixHitsPreemptionsAndSharedPrefills) {
  const std::vector<EngineRequest> requests = MakeRequests();
  const Answers alone = Alone(requests);

  const Run roomy = Together(requests, /*prefix_cache=*/false, 100);
  ExpectEqual(alone, roomy.answers);
  EXPECT_EQ(roomy.counts.prefix_hit_tokens, 0u);
  EXPECT_EQ(roomy.counts.preemptions, 0u);

  const Run cached = Together(requests, /*prefix_cache=*/true, 100);
  ExpectEqual(alone, cached.answers);
  EXPECT_GT(cached.counts.prefix_hit_tokens, 100u);

  const Run tight = Together(requests, /*prefix_cache=*/true, shard::IsEmulated() ? 8 : 12);
  ExpectEqual(alone, tight.answers);
  EXPECT_GT(tight.counts.preemptions, shard::IsEmulated() ? 0u : 3u);
  EXPECT_GT(tight.counts.recomputed_tokens, 0u);
}

std::vector<GroupCase> AllCases() {
  if (shard::IsEmulated()) return {{kernels::DType::kFloat32, 1}, {kernels::DType::kBFloat16, 2}};
  return {{kernels::DType::kFloat32, 1},
          {kernels::DType::kFloat32, 2},
          {kernels::DType::kBFloat16, 1},
          {kernels::DType::kBFloat16, 2}};
}

INSTANTIATE_TEST_SUITE_P(Machine,
                         SchedulerAnswer,
                         testing::ValuesIn(AllCases()),
                         [](const testing::TestParamInfo<GroupCase>& test) {
                           return std::string(kernels::DTypeName(test.param.dtype)) + "_" +
                                  std::to_string(test.param.world_size) + "_ranks";
                         });

}  // namespace
}  // namespace phi::service
