// The same model at every world size: log-probabilities within rounding, greedy ids equal,
// collectives counted.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <random>

#include "tests/parallel/rank_group.h"
#include "tools/make_checkpoint/random_checkpoint.h"

namespace phi::shard {
namespace {

// Deviation of the logits of make_checkpoint's models.
constexpr double kLogitDeviation = 2.0;

struct Case {
  const char* name;
  tools::ModelShape shape;
  uint32_t num_real_tokens;
};

// Five heads, so that each world size but 1 and 5 is uneven; vocabulary and MLP end in short units.
const Case kUneven{.name = "five_heads",
                   .shape = {.vocab_size = 1009,
                             .hidden_size = 60,
                             .intermediate_size = 137,
                             .num_hidden_layers = 3,
                             .num_attention_heads = 5,
                             .max_position_embeddings = 128,
                             .partial_rotary_factor = 0.4},
                   .num_real_tokens = 1000};
// Two query heads a key-value head, and at four ranks one without MLP columns and one without rows
// of the head.
const Case kGrouped{.name = "grouped_and_empty_shares",
                    .shape = {.vocab_size = 40,
                              .hidden_size = 64,
                              .intermediate_size = 40,
                              .num_hidden_layers = 2,
                              .num_attention_heads = 8,
                              .num_key_value_heads = 4,
                              .head_dim = 12,
                              .max_position_embeddings = 128,
                              .tie_word_embeddings = true},
                    .num_real_tokens = 33};

struct GroupCase {
  const Case* model;
  kernels::DType dtype;
  int world_size;
};

std::vector<Prompt> MakePrompts(const Case& model) {
  std::mt19937 random(11);
  std::vector<Prompt> prompts;
  for (const size_t length : {size_t{1}, size_t{16}, size_t{45}}) {
    Prompt prompt{.sampling = {.num_top_logprobs = kTopLogprobsMax, .want_logprobs = true},
                  .num_new_tokens = IsEmulated() ? 4U : 10U};
    for (size_t i = 0; i < length; ++i) {
      prompt.ids.push_back(static_cast<uint32_t>(random() % model.num_real_tokens));
    }
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

// How far two orders of summation may move a log-probability. float32: a sum of n products rounds n
// times by 2^-24 of its deviation, at random, so by sqrt(n) of that; a layer makes four such sums,
// the head one. bfloat16: the last bit of a float32 sum may tip an operand's rounding, by 2^-8 of
// it; of the hidden_size operands at each of 8 places a layer and 3 more (tests/golden counts them)
// hardly ever more than one. The largest of all values is within 5 of the root mean square.
double Tolerance(const GroupCase& group_case) {
  const tools::ModelShape& shape = group_case.model->shape;
  const auto layers = static_cast<double>(shape.num_hidden_layers);
  const auto hidden = static_cast<double>(shape.hidden_size);
  if (group_case.dtype == kernels::DType::kBFloat16) {
    return 5 * kLogitDeviation * 0x1p-8 * std::sqrt((8 * layers + 3) / hidden);
  }
  const double longest_sum = hidden + static_cast<double>(shape.intermediate_size);
  return 5 * kLogitDeviation * 0x1p-24 * std::sqrt(longest_sum * (4 * layers + 1));
}

// The largest difference of the log-probabilities that both list, and equal ids where the choice is
// clear.
double Compare(const std::vector<SampledToken>& one,
               const std::vector<SampledToken>& many,
               double tolerance) {
  EXPECT_EQ(one.size(), many.size());
  double largest = 0;
  size_t compared = 0;
  for (size_t step = 0; step < one.size(); ++step) {
    const std::vector<TokenLogprob>& top = one[step].top;
    const double margin = static_cast<double>(top[0].logprob) - static_cast<double>(top[1].logprob);
    if (margin > 2 * tolerance) {
      EXPECT_EQ(many[step].token_id, one[step].token_id) << "step " << step;
    }
    std::map<uint32_t, float> listed;
    for (const TokenLogprob& entry : many[step].top) listed[entry.token_id] = entry.logprob;
    for (const TokenLogprob& entry : top) {
      if (!listed.contains(entry.token_id)) continue;
      const double difference =
          std::abs(static_cast<double>(listed[entry.token_id] - entry.logprob));
      EXPECT_TRUE(std::isfinite(difference)) << "step " << step;  // max() passes over a NaN
      largest = std::max(largest, difference);
      ++compared;
    }
  }
  EXPECT_GT(compared, 18 * one.size());
  return largest;
}

class ModelParallel : public testing::TestWithParam<GroupCase> {
 protected:
  void SetUp() override {
    if (GetParam().world_size > MostRanks()) GTEST_SKIP() << MostRanks() << " devices";
  }
};

TEST_P(ModelParallel, AnswersAsOneRankDoes) {
  const GroupCase& group_case = GetParam();
  const TemporaryDir dir;
  const absl::Status made = tools::WriteRandomCheckpoint({.dir = dir.path(),
                                                          .shape = group_case.model->shape,
                                                          .seed = 3,
                                                          .tokenizer_path = "",
                                                          .on_progress = {}});
  ASSERT_TRUE(made.ok()) << made;
  GroupOptions options{.model_dir = dir.path(),
                       .make_rank = DefaultRanks(group_case.dtype).maker(1),
                       .num_real_tokens = group_case.model->num_real_tokens};
  std::vector<Prompt> prompts = MakePrompts(*group_case.model);
  std::vector<std::vector<SampledToken>> expected;
  {
    RankGroup one(options);
    expected = Generate(one, prompts, {}, options.limits.num_kv_blocks);
  }
  for (size_t i = 0; i < prompts.size(); ++i) {
    for (const SampledToken& token : expected[i]) prompts[i].forced.push_back(token.token_id);
  }

  options.world_size = group_case.world_size;
  RankGroup group(options);
  const std::vector<std::vector<SampledToken>> answers = Generate(
      group, prompts, {.max_chunk = 9, .whole_prompts = false}, options.limits.num_kv_blocks);

  const double tolerance = Tolerance(group_case);
  double largest = 0;
  for (size_t i = 0; i < prompts.size(); ++i) {
    largest = std::max(largest, Compare(expected[i], answers[i], tolerance));
  }
  EXPECT_LE(largest, tolerance);
  std::printf("largest difference %.1e of %.1e\n", largest, tolerance);
}

TEST_P(ModelParallel, AStepTakesNumLayersAllReducesAndOneGather) {
  const GroupCase& group_case = GetParam();
  const TemporaryDir dir;
  const absl::Status made = tools::WriteRandomCheckpoint({.dir = dir.path(),
                                                          .shape = group_case.model->shape,
                                                          .tokenizer_path = "",
                                                          .on_progress = {}});
  ASSERT_TRUE(made.ok()) << made;
  RankGroup group({.model_dir = dir.path(),
                   .world_size = group_case.world_size,
                   .make_rank = DefaultRanks(group_case.dtype).maker(1),
                   .num_real_tokens = group_case.model->num_real_tokens});
  constexpr uint64_t kSteps = 4;
  for (uint32_t step = 0; step < kSteps; ++step) {
    StepPlan plan;
    plan.token_ids = {5, 6};
    plan.sequences.push_back(
        {.num_tokens = 2, .first_position = 2 * step, .block_ids = {9}, .num_draws = step % 2});
    const absl::StatusOr<StepResult> result = group.Execute(plan);
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->tokens.size(), step % 2);
    ASSERT_TRUE(group.Execute(StepPlan{}).ok());  // an idle plan takes none
  }
  const std::vector<CollectiveStats> stats = group.Stop();
  ASSERT_EQ(stats.size(), static_cast<size_t>(group_case.world_size));
  for (const CollectiveStats& rank : stats) {
    EXPECT_EQ(rank.all_reduces,
              kSteps * static_cast<uint64_t>(group_case.model->shape.num_hidden_layers));
    EXPECT_EQ(rank.gathers, kSteps);
  }
}

constexpr kernels::DType kFloat32 = kernels::DType::kFloat32;
constexpr kernels::DType kBFloat16 = kernels::DType::kBFloat16;

INSTANTIATE_TEST_SUITE_P(All,
                         ModelParallel,
                         testing::Values(GroupCase{&kUneven, kFloat32, 1},
                                         GroupCase{&kUneven, kFloat32, 2},
                                         GroupCase{&kUneven, kFloat32, 3},
                                         GroupCase{&kUneven, kFloat32, 4},
                                         GroupCase{&kUneven, kFloat32, 5},
                                         GroupCase{&kUneven, kBFloat16, 3},
                                         GroupCase{&kGrouped, kFloat32, 2},
                                         GroupCase{&kGrouped, kFloat32, 3},
                                         GroupCase{&kGrouped, kFloat32, 4},
                                         GroupCase{&kGrouped, kBFloat16, 4}),
                         [](const testing::TestParamInfo<GroupCase>& test) {
                           return std::string(test.param.model->name) + "_" +
                                  std::string(kernels::DTypeName(test.param.dtype)) + "_" +
                                  std::to_string(test.param.world_size);
                         });

}  // namespace
}  // namespace phi::shard
