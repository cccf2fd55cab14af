// Samples that share one prefill, and penalties, at every world size: forked samples are bit for
// bit what separate requests are, and all world sizes draw the same tokens.
#include <gtest/gtest.h>

#include <random>

#include "tests/parallel/rank_group.h"
#include "tools/make_checkpoint/random_checkpoint.h"

namespace phi::shard {
namespace {

constexpr uint32_t kNumRealTokens = 515;
constexpr uint32_t kNumSamples = 3;
constexpr int kWorldSizes[] = {1, 2, 4};
constexpr uint32_t kBlock = kernels::kKvBlockTokens;

const tools::ModelShape kShape{.vocab_size = 523,
                               .hidden_size = 64,
                               .intermediate_size = 137,
                               .num_hidden_layers = 2,
                               .num_attention_heads = 8,
                               .num_key_value_heads = 4,
                               .head_dim = 12,
                               .max_position_embeddings = 128};

Prompt MakePrompt(size_t length, const SamplingParams& sampling) {
  std::mt19937 random(31);
  Prompt prompt{.sampling = sampling, .num_new_tokens = IsEmulated() ? 6U : 20U};
  for (size_t i = 0; i < length; ++i)
    prompt.ids.push_back(static_cast<uint32_t>(random() % kNumRealTokens));
  return prompt;
}

const SamplingParams kSampled{
    .temperature = 1.0F, .top_p = 0.97F, .seed = 9, .num_top_logprobs = 3, .want_logprobs = true};
SamplingParams Penalised(SamplingParams params) {
  params.repetition_penalty = 1.4F;
  params.frequency_penalty = 0.5F;
  params.presence_penalty = 0.25F;
  params.logit_bias = {{7, 3.0F}, {300, 2.5F}, {12, -100.0F}};
  return params;
}

// One sample on its way: block tables begin with the prompt's full blocks, which all share.
struct Sample {
  std::vector<uint32_t> ids;
  std::vector<uint32_t> block_ids;
  std::vector<SampledToken> answer;

  void Take(const SampledToken& token) {
    ids.push_back(token.token_id);
    answer.push_back(token);
    // Where it stood in its steps is no part of the answer.
    answer.back().sequence_index = answer.back().draw_index = 0;
  }
};

PlannedSequence PlanRows(const Prompt& prompt, const Sample& sample, uint32_t first_position) {
  const auto end = static_cast<uint32_t>(sample.ids.size());
  const uint32_t num_blocks = (end + kBlock - 1) / kBlock;
  PlannedSequence planned{
      .num_tokens = end - first_position,
      .first_position = first_position,
      .block_ids = {sample.block_ids.begin(), sample.block_ids.begin() + num_blocks},
      .num_draws = 1,
      .sampling = prompt.sampling};
  if (HasPenalties(prompt.sampling)) {
    planned.history = sample.ids;
    planned.num_prompt_tokens = static_cast<uint32_t>(prompt.ids.size());
  }
  return planned;
}

std::vector<Sample> Prefill(RankGroup& group, const Prompt& prompt) {
  Sample first{.ids = prompt.ids, .block_ids = {90, 91, 92, 93, 94, 95}, .answer = {}};
  PlannedSequence planned = PlanRows(prompt, first, 0);
  planned.num_draws = kNumSamples;
  const auto result = group.Execute({.token_ids = prompt.ids, .sequences = {planned}});
  EXPECT_TRUE(result.ok()) << result.status();
  std::vector<Sample> samples(kNumSamples, first);
  for (uint32_t i = 0; i < kNumSamples; ++i) {
    EXPECT_EQ(result->tokens.at(i).draw_index, i);
    samples[i].Take(result->tokens.at(i));
  }
  return samples;
}

// Gives each sample blocks of its own from the first one that is not full, and the copies that
// this takes.
std::vector<BlockCopy> Fork(const Prompt& prompt, std::vector<Sample>& samples) {
  std::vector<BlockCopy> copies;
  const size_t full_blocks = prompt.ids.size() / kBlock;
  for (uint32_t i = 1; i < kNumSamples; ++i) {
    std::vector<uint32_t>& block_ids = samples[i].block_ids;
    for (size_t block = full_blocks; block < block_ids.size(); ++block)
      block_ids[block] = 10 * i + static_cast<uint32_t>(block);
    if (prompt.ids.size() % kBlock > 0)
      copies.push_back({samples[0].block_ids[full_blocks], block_ids[full_blocks]});
  }
  return copies;
}

std::vector<std::vector<SampledToken>> Forked(RankGroup& group, const Prompt& prompt) {
  std::vector<Sample> samples = Prefill(group, prompt);
  std::vector<BlockCopy> copies = Fork(prompt, samples);
  for (uint32_t generated = 1; generated < prompt.num_new_tokens; ++generated) {
    StepPlan plan{.block_copies = std::exchange(copies, {})};
    for (uint32_t i = 0; i < kNumSamples; ++i) {
      const auto last = static_cast<uint32_t>(samples[i].ids.size()) - 1;
      plan.token_ids.push_back(samples[i].ids[last]);
      plan.sequences.push_back(PlanRows(prompt, samples[i], last));
      plan.sequences.back().sampling.sample_index = i;
    }
    const auto result = group.Execute(plan);
    EXPECT_TRUE(result.ok()) << result.status();
    for (uint32_t i = 0; i < kNumSamples; ++i) samples[i].Take(result->tokens.at(i));
  }
  std::vector<std::vector<SampledToken>> answers;
  for (Sample& sample : samples) answers.push_back(std::move(sample.answer));
  return answers;
}

std::vector<uint32_t> Ids(const std::vector<SampledToken>& answer) {
  std::vector<uint32_t> ids;
  for (const SampledToken& token : answer) ids.push_back(token.token_id);
  return ids;
}

class Samples : public testing::TestWithParam<kernels::DType> {
 protected:
  void SetUp() override {
    const absl::Status made = tools::WriteRandomCheckpoint(
        {.dir = dir_.path(), .shape = kShape, .seed = 5, .tokenizer_path = "", .on_progress = {}});
    ASSERT_TRUE(made.ok()) << made;
  }

  GroupOptions Options(int world_size) const {
    return {.model_dir = dir_.path(),
            .world_size = world_size,
            .make_rank = InvariantRanks(GetParam()).back().maker(1),
            .num_real_tokens = kNumRealTokens,
            .limits = {.max_sequences = 16, .max_step_tokens = 512, .num_kv_blocks = 100}};
  }

  TemporaryDir dir_;
};

// A prompt that ends within a block, whose copies all later tokens read, and one that does not.
TEST_P(Samples, ForkedOnesAreSeparateRequestsBitForBit) {
  for (const int world_size : kWorldSizes) {
    if (world_size > MostRanks()) continue;
    RankGroup group(Options(world_size));
    for (const size_t length : {size_t{37}, size_t{32}}) {
      for (const SamplingParams& sampling : {kSampled, Penalised(kSampled)}) {
        if (IsEmulated() && HasPenalties(sampling) == (length == 32)) continue;
        Prompt prompt = MakePrompt(length, sampling);
        const auto forked = Forked(group, prompt);
        for (uint32_t i = 0; i < kNumSamples; ++i) {
          prompt.sampling.sample_index = i;
          EXPECT_TRUE(forked[i] == Generate(group, {prompt}, {}, 100)[0])
              << "sample " << i << " of " << length << " tokens at " << world_size << " ranks";
        }
        EXPECT_NE(Ids(forked[0]), Ids(forked[1]));
      }
    }
  }
}

class SamplesOfAllSizes : public Samples {};

// Rounding differs by the world size, by so little that no draw of these falls elsewhere.
TEST_P(SamplesOfAllSizes, AllWorldSizesDrawTheSameTokens) {
  const Prompt prompts[] = {MakePrompt(37, kSampled),
                            MakePrompt(37, Penalised(kSampled)),
                            MakePrompt(37, {}),
                            MakePrompt(37, Penalised({}))};
  std::vector<std::vector<uint32_t>> at_one_rank;
  for (const int world_size : kWorldSizes) {
    if (world_size > MostRanks()) continue;
    RankGroup group(Options(world_size));
    for (size_t i = 0; i < std::size(prompts); ++i) {
      const std::vector<uint32_t> ids = Ids(Generate(group, {prompts[i]}, {}, 100)[0]);
      if (world_size == 1) at_one_rank.push_back(ids);
      EXPECT_EQ(ids, at_one_rank[i]) << "prompt " << i << " at " << world_size << " ranks";
    }
  }
  EXPECT_NE(at_one_rank[0], at_one_rank[1]);
  EXPECT_NE(at_one_rank[2], at_one_rank[3]);
}

std::string DTypeCaseName(const testing::TestParamInfo<kernels::DType>& info) {
  return std::string(kernels::DTypeName(info.param));
}
INSTANTIATE_TEST_SUITE_P(All,
                         Samples,
                         testing::Values(kernels::DType::kFloat32, kernels::DType::kBFloat16),
                         DTypeCaseName);
INSTANTIATE_TEST_SUITE_P(All,
                         SamplesOfAllSizes,
                         testing::ValuesIn(DTypesOfEqualDraws()),
                         DTypeCaseName);

}  // namespace
}  // namespace phi::shard
