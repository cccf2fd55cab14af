// I1: a request's tokens and log-probabilities are the same bits alone and in company, however its
// prompt is cut and wherever its KV blocks lie, on any number of threads, seeded sampling included.
#include <gtest/gtest.h>

#include <random>

#include "tests/parallel/rank_group.h"
#include "tools/make_checkpoint/random_checkpoint.h"

namespace phi::shard {
namespace {

constexpr uint32_t kMaxRequests = 16;
constexpr uint32_t kNumRealTokens = 515;

const tools::ModelShape kShape{.vocab_size = 523,
                               .hidden_size = 80,
                               .intermediate_size = 137,
                               .num_hidden_layers = 2,
                               .num_attention_heads = 4,
                               .num_key_value_heads = 2,
                               .head_dim = 20,
                               .max_position_embeddings = 128};

std::vector<Prompt> MakePrompts() {
  std::mt19937 random(23);
  std::vector<Prompt> prompts;
  const uint32_t num_requests = IsEmulated() ? 6 : kMaxRequests;
  for (uint32_t i = 0; i < num_requests; ++i) {
    const uint32_t num_new_tokens = IsEmulated() ? 2 + i % 4 : 4 + i % 8;
    Prompt prompt{.sampling = {.num_top_logprobs = 5, .want_logprobs = true},
                  .num_new_tokens = num_new_tokens,
                  .arrival_step = static_cast<uint32_t>(random() % 6)};
    const size_t length = 1 + random() % 70;
    for (size_t j = 0; j < length; ++j)
      prompt.ids.push_back(static_cast<uint32_t>(random() % kNumRealTokens));
    if (i % 3 != 0) {
      prompt.sampling.temperature = 0.9F;
      prompt.sampling.seed = 100 + i;
      prompt.sampling.sample_index = i % 2;
      prompt.sampling.top_k = i % 3 == 1 ? 50 : 0;
      prompt.sampling.top_p = i % 2 == 0 ? 0.95F : 1.0F;
    }
    if (i % 4 == 1) {
      prompt.sampling.repetition_penalty = 1.3F;
      prompt.sampling.frequency_penalty = 0.4F;
      prompt.sampling.presence_penalty = -0.3F;
      prompt.sampling.logit_bias = {{i, 2.0F}, {100 + i, -50.0F}};
    }
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

struct GroupCase {
  RankKind ranks;
  int world_size;
};

class SameAnswer : public testing::TestWithParam<GroupCase> {
 protected:
  void SetUp() override {
    if (GetParam().world_size > MostRanks()) GTEST_SKIP() << MostRanks() << " devices";
    const absl::Status made = tools::WriteRandomCheckpoint(
        {.dir = dir_.path(), .shape = kShape, .seed = 5, .tokenizer_path = "", .on_progress = {}});
    ASSERT_TRUE(made.ok()) << made;
  }

  GroupOptions Options(int threads) const {
    return {
        .model_dir = dir_.path(),
        .world_size = GetParam().world_size,
        .make_rank = GetParam().ranks.maker(threads),
        .num_real_tokens = kNumRealTokens,
        .limits = {.max_sequences = kMaxRequests, .max_step_tokens = 2000, .num_kv_blocks = 100}};
  }

  TemporaryDir dir_;
};

TEST_P(SameAnswer, AloneAndInCompany) {
  const std::vector<Prompt> prompts = MakePrompts();
  std::vector<std::vector<SampledToken>> alone;
  {
    const GroupOptions options = Options(1);
    RankGroup group(options);
    for (const Prompt& prompt : prompts) {
      alone.push_back(Generate(group, {prompt}, {}, options.limits.num_kv_blocks)[0]);
    }
  }
  // A new group each time: a restart changes nothing either.
  struct Variation {
    int threads;
    Schedule schedule;
  };
  std::vector<Variation> variations = {{1, {.seed = 1}},
                                       {2, {.max_chunk = 33, .whole_prompts = false, .seed = 2}},
                                       {3, {.max_chunk = 7, .whole_prompts = false, .seed = 3}}};
  if (IsEmulated()) variations.pop_back();
  for (const Variation& variation : variations) {
    const GroupOptions options = Options(variation.threads);
    RankGroup group(options);
    const std::vector<std::vector<SampledToken>> together =
        Generate(group, prompts, variation.schedule, options.limits.num_kv_blocks);
    for (uint32_t i = 0; i < prompts.size(); ++i) {
      ASSERT_EQ(together[i].size(), prompts[i].num_new_tokens);
      EXPECT_TRUE(together[i] == alone[i])
          << "request " << i << ", seed " << variation.schedule.seed;
    }
  }
}

std::vector<GroupCase> AllCases() {
  std::vector<GroupCase> cases;
  for (const kernels::DType dtype : {kernels::DType::kFloat32, kernels::DType::kBFloat16}) {
    for (const RankKind& ranks : InvariantRanks(dtype)) {
      cases.push_back({ranks, 1});
      cases.push_back({ranks, 2});
    }
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Machine,
                         SameAnswer,
                         testing::ValuesIn(AllCases()),
                         [](const testing::TestParamInfo<GroupCase>& test) {
                           return test.param.ranks.name + "_" +
                                  std::string(kernels::DTypeName(test.param.ranks.dtype)) + "_" +
                                  std::to_string(test.param.world_size) + "_ranks";
                         });

}  // namespace
}  // namespace phi::shard
