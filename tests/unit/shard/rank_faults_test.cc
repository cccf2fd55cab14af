// Faults within a step, by failpoint; the row of docs/reliability.md is in the name.
#include <gtest/gtest.h>

#include "kernels/base/failpoint.h"
#include "shard/rank.h"
#include "tests/parallel/rank_group.h"
#include "tools/make_checkpoint/random_checkpoint.h"

namespace phi::shard {
namespace {

const tools::ModelShape kShape{.vocab_size = 331,
                               .hidden_size = 60,
                               .intermediate_size = 72,
                               .num_hidden_layers = 2,
                               .num_attention_heads = 3,
                               .max_position_embeddings = 64};
constexpr uint32_t kSequences = 3;

class RankFaults : public testing::Test {
 protected:
  void SetUp() override {
    const absl::Status made = tools::WriteRandomCheckpoint(
        {.dir = dir_.path(), .shape = kShape, .seed = 1, .tokenizer_path = "", .on_progress = {}});
    ASSERT_TRUE(made.ok()) << made;
  }
  void TearDown() override { ASSERT_TRUE(SetFailpoints("").ok()); }

  // Step `step` of three sequences of one token a step.
  static StepPlan Plan(uint32_t step) {
    StepPlan plan;
    for (uint32_t i = 0; i < kSequences; ++i) {
      plan.token_ids.push_back(20 * i + step);
      plan.sequences.push_back(
          {.num_tokens = 1,
           .first_position = step,
           .block_ids = {i},
           .num_draws = 1,
           .sampling = {
               .temperature = 1.0F, .seed = i, .num_top_logprobs = 5, .want_logprobs = true}});
    }
    return plan;
  }

  // What every step drew, until one failed.
  std::vector<SampledToken> Run(uint32_t num_steps) {
    RankGroup group({.model_dir = dir_.path(),
                     .world_size = 2,
                     .make_rank = DefaultRanks(kernels::DType::kFloat32).maker(1),
                     .num_real_tokens = 300});
    std::vector<SampledToken> tokens;
    for (uint32_t step = 0; step < num_steps; ++step) {
      const auto result = group.Execute(Plan(step));
      EXPECT_TRUE(result.ok()) << result.status();
      tokens.insert(tokens.end(), result->tokens.begin(), result->tokens.end());
    }
    return tokens;
  }

  TemporaryDir dir_;
};

TEST_F(RankFaults, Row18_NonfiniteLogitsOfOneSequenceLeaveItsMatesTheirBits) {
  const std::vector<SampledToken> expected = Run(4);
  ASSERT_TRUE(SetFailpoints("rank.logits=nan@5").ok());
  const std::vector<SampledToken> hurt = Run(4);
  ASSERT_EQ(hurt.size(), 4 * kSequences);
  for (size_t i = 0; i < hurt.size(); ++i) {
    if (i == 4) {
      EXPECT_TRUE(hurt[i].nonfinite_logits);
    } else {
      EXPECT_EQ(hurt[i], expected[i]) << "token " << i;
    }
  }
}

}  // namespace
}  // namespace phi::shard
