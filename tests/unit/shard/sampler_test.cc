#include "shard/sampling/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <set>

#include "shard/sampling/philox.h"
#include "shard/step_plan.h"

namespace phi::shard {
namespace {

// Vectors of the Random123 library, tests/kat_vectors, lines "philox4x32 10": counter, key, answer.
TEST(Philox, KnownAnswers) {
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (PhiloxCounter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (PhiloxCounter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (PhiloxCounter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, UniformDrawsFillTheUnitInterval) {
  constexpr int kDraws = 20000;
  double sum = 0;
  double highest = 0;
  double lowest = 1;
  for (uint32_t position = 0; position < kDraws; ++position) {
    const double draw = UniformDraw(99, 1, position);
    sum += draw;
    highest = std::max(highest, draw);
    lowest = std::min(lowest, draw);
  }
  EXPECT_GE(lowest, 0.0);
  EXPECT_LT(highest, 1.0);
  EXPECT_LT(lowest, 0.001);
  EXPECT_GT(highest, 0.999);
  EXPECT_NEAR(sum / kDraws, 0.5, 5 * std::sqrt(1.0 / 12 / kDraws));
}

SampledToken Sample(Sampler& sampler,
                    std::vector<float> logits,
                    uint32_t position,
                    const SamplingParams& params) {
  return sampler.Sample({.logits = logits, .position = position}, params, 1).at(0);
}

// Coarse values, so that ties are frequent, and both zeros.
std::vector<float> RandomLogits(std::mt19937& random, size_t count) {
  std::vector<float> logits(count);
  for (float& logit : logits) {
    logit = static_cast<float>(static_cast<int>(random() % 41) - 20) / 4.0F;
    if (logit == 0.0F && random() % 2 == 0) logit = -0.0F;
  }
  return logits;
}

// The drawn tokens follow the softmax at the temperature: chi-square of 8 outcomes, 7 degrees of
// freedom.
TEST(Sampler, FrequenciesFollowTheSoftmax) {
  const std::vector<float> logits{0.0F, 1.0F, -1.0F, 2.0F, 0.5F, -0.5F, 1.5F, -2.0F};
  constexpr int kDraws = 20000;
  Sampler sampler(8, 8, 0);
  std::vector<int> counts(8);
  for (uint32_t position = 0; position < kDraws; ++position) {
    ++counts[Sample(sampler, logits, position, {.temperature = 0.8F, .seed = 12345}).token_id];
  }
  double total = 0;
  for (const float logit : logits) total += std::exp(static_cast<double>(logit) / 0.8);
  double chi_square = 0;
  for (size_t id = 0; id < logits.size(); ++id) {
    const double expected = kDraws * std::exp(static_cast<double>(logits[id]) / 0.8) / total;
    chi_square += (counts[id] - expected) * (counts[id] - expected) / expected;
  }
  EXPECT_LT(chi_square, 24.3);  // the 99.9% point
}

TEST(Sampler, GreedyTakesTheLowestIdOfATie) {
  Sampler sampler(6, 5, 1);
  const std::vector<float> logits{1.0F, 3.0F, 3.0F, 2.0F, 3.0F, 9.0F};
  EXPECT_EQ(Sample(sampler, logits, 0, {}).token_id, 1U);
  EXPECT_EQ(Sample(sampler, logits, 0, {.mask_eos = true}).token_id, 2U);
}

TEST(Sampler, PaddingRowsAreNeverDrawn) {
  std::mt19937 random(3);
  Sampler sampler(64, 10, 0);
  std::vector<float> logits = RandomLogits(random, 64);
  for (size_t id = 10; id < 64; ++id) logits[id] = 50.0F;
  for (uint32_t position = 0; position < 500; ++position) {
    EXPECT_LT(Sample(sampler, logits, position, {.temperature = 2.0F, .seed = 1}).token_id, 10U);
    EXPECT_LT(Sample(sampler, logits, position, {}).token_id, 10U);
  }
}

TEST(Sampler, LogprobsAreOverAllRowsAndBeforeMasks) {
  // Row 3 is padding and takes half of the mass.
  const std::vector<float> logits{0.0F, std::log(2.0F), 0.0F, std::log(4.0F)};
  Sampler sampler(4, 3, 1);
  const SampledToken token =
      Sample(sampler, logits, 0, {.num_top_logprobs = 3, .want_logprobs = true, .mask_eos = true});
  EXPECT_EQ(token.token_id, 0U);
  EXPECT_NEAR(token.logprob, std::log(1.0 / 8), 1e-6);
  ASSERT_EQ(token.top.size(), 3U);
  EXPECT_EQ(token.top[0].token_id, 1U);  // masked, and still the most likely
  EXPECT_NEAR(token.top[0].logprob, std::log(2.0 / 8), 1e-6);
  EXPECT_EQ(token.top[1].token_id, 0U);
  EXPECT_EQ(token.top[2].token_id, 2U);
  EXPECT_EQ(token.top[1].logprob, token.top[2].logprob);
}

TEST(Sampler, TopLogprobsEqualASort) {
  std::mt19937 random(8);
  for (int round = 0; round < 300; ++round) {
    const auto vocab_size = static_cast<uint32_t>(30 + random() % 200);
    const auto num_real = vocab_size - static_cast<uint32_t>(random() % 30);
    const std::vector<float> logits = RandomLogits(random, vocab_size);
    const auto count = static_cast<uint32_t>(random() % (kTopLogprobsMax + 1));
    Sampler sampler(vocab_size, num_real, 0);
    const SampledToken token =
        Sample(sampler,
               logits,
               0,
               {.num_top_logprobs = count, .want_logprobs = true, .mask_eos = round % 2 == 0});
    std::vector<uint32_t> ids(num_real);
    std::iota(ids.begin(), ids.end(), 0);
    std::stable_sort(
        ids.begin(), ids.end(), [&](uint32_t a, uint32_t b) { return logits[a] > logits[b]; });
    ASSERT_EQ(token.top.size(), std::min<size_t>(count, num_real));
    for (size_t i = 0; i < token.top.size(); ++i) EXPECT_EQ(token.top[i].token_id, ids[i]) << round;
  }
}

TEST(Sampler, NonFiniteLogitsAreFlagged) {
  Sampler sampler(4, 3, 0);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(),
                          std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    for (size_t row = 0; row < 4; ++row) {
      std::vector<float> logits{1.0F, 2.0F, 3.0F, 4.0F};
      logits[row] = bad;
      EXPECT_TRUE(Sample(sampler, logits, 0, {}).nonfinite_logits);
    }
  }
  EXPECT_FALSE(Sample(sampler, std::vector<float>{1.0F, 2.0F, 3.0F, 4.0F}, 0, {}).nonfinite_logits);
}

// Three tokens of one logit: each rule moves one of them.
TEST(Sampler, PenaltiesAndBiasMoveTheGreedyChoice) {
  Sampler sampler(4, 4, 3);
  std::vector<float> logits{2.0F, 2.0F, 2.0F, -9.0F};
  const std::vector<uint32_t> history{0, 1, 1};  // of which the first is the prompt
  const auto greedy = [&](const SamplingParams& params) {
    const SamplerRow row = {.logits = logits, .history = history, .num_prompt_tokens = 1};
    return sampler.Sample(row, params, 1).at(0).token_id;
  };
  EXPECT_EQ(greedy({}), 0U);
  EXPECT_EQ(greedy({.repetition_penalty = 1.1F}), 2U);  // prompt and output
  EXPECT_EQ(greedy({.repetition_penalty = 0.9F}), 0U);  // once each: 0 and 1 stay tied
  EXPECT_EQ(greedy({.presence_penalty = 0.1F}), 0U);    // the output alone
  EXPECT_EQ(greedy({.presence_penalty = -0.1F}), 1U);
  EXPECT_EQ(greedy({.frequency_penalty = -0.1F}), 1U);
  // -1 + 2 * 0.5 = 0: one occurrence would not have made up for it.
  EXPECT_EQ(greedy({.frequency_penalty = -0.5F, .presence_penalty = 1.0F}), 0U);
  EXPECT_EQ(greedy({.frequency_penalty = -0.75F, .presence_penalty = 1.0F}), 1U);
  EXPECT_EQ(greedy({.logit_bias = {{3, 100.0F}}}), 3U);
  EXPECT_EQ(greedy({.mask_eos = true, .logit_bias = {{3, 100.0F}}}), 0U);  // a mask is stronger
  EXPECT_EQ(logits, (std::vector<float>{2.0F, 2.0F, 2.0F, -9.0F}));
}

// Hugging Face's rule turns at zero: below it a penalty multiplies.
TEST(Sampler, ARepetitionPenaltyLowersNegativeLogits) {
  Sampler sampler(2, 2, 0);
  std::vector<float> logits{-1.0F, -1.5F};
  const std::vector<uint32_t> history{0};
  const SamplerRow row = {.logits = logits, .history = history, .num_prompt_tokens = 1};
  EXPECT_EQ(sampler.Sample(row, {.repetition_penalty = 1.4F}, 1).at(0).token_id, 0U);
  EXPECT_EQ(sampler.Sample(row, {.repetition_penalty = 1.6F}, 1).at(0).token_id, 1U);
}

TEST(Sampler, LogprobsAreBeforePenaltiesAndBias) {
  Sampler sampler(2, 2, 0);
  std::vector<float> logits{0.0F, std::log(3.0F)};
  const std::vector<uint32_t> history{1};
  const SamplerRow row = {.logits = logits, .history = history};
  const SampledToken token = sampler
                                 .Sample(row,
                                         {.num_top_logprobs = 2,
                                          .want_logprobs = true,
                                          .frequency_penalty = 2.0F,
                                          .logit_bias = {{0, 5.0F}}},
                                         1)
                                 .at(0);
  EXPECT_EQ(token.token_id, 0U);
  EXPECT_NEAR(token.logprob, std::log(0.25), 1e-6);
  ASSERT_EQ(token.top.size(), 2U);
  EXPECT_EQ(token.top[0].token_id, 1U);
  EXPECT_NEAR(token.top[0].logprob, std::log(0.75), 1e-6);
}

TEST(Sampler, ManyDrawsAreTheSamplesOneByOne) {
  std::mt19937 random(4);
  std::vector<float> logits = RandomLogits(random, 300);
  Sampler sampler(300, 300, 0);
  SamplingParams params{
      .temperature = 1.5F, .seed = 7, .num_top_logprobs = 2, .want_logprobs = true};
  const std::vector<SampledToken> drawn =
      sampler.Sample({.logits = logits, .position = 11}, params, kMaxDraws);
  ASSERT_EQ(drawn.size(), kMaxDraws);
  std::set<uint32_t> different;
  for (uint32_t i = 0; i < kMaxDraws; ++i) {
    params.sample_index = i;
    SampledToken alone = Sample(sampler, logits, 11, params);
    alone.draw_index = i;
    EXPECT_EQ(drawn[i], alone);
    different.insert(alone.token_id);
  }
  EXPECT_GT(different.size(), 8U);
}

// Whole rows and their candidates, of every kind of draw that candidates decide.
TEST(Sampler, CandidatesDrawWhatTheRowDraws) {
  constexpr uint32_t kVocab = 300;
  constexpr uint32_t kReal = 290;
  constexpr uint32_t kEos = 17;
  std::mt19937 random(9);
  Sampler sampler(kVocab, kReal, kEos);
  size_t eos_on_top = 0;
  for (uint32_t trial = 0; trial < 3000; ++trial) {
    std::vector<float> logits = RandomLogits(random, kVocab);
    if (random() % 4 == 0) logits[kEos] = 6.0F;
    SamplingParams params{.seed = trial, .sample_index = trial % 3, .mask_eos = trial % 2 == 0};
    if (trial % 3 != 0) {
      params.temperature = 0.2F + static_cast<float>(random() % 20) / 10.0F;
      params.top_k = 1 + static_cast<uint32_t>(random() % 63);
      params.top_p = trial % 5 == 0 ? 1.0F : 0.3F + static_cast<float>(random() % 7) / 10.0F;
      params.min_p = trial % 7 == 0 ? 0.2F : 0.0F;
    }
    const uint32_t needed = CandidatesNeeded(params);
    ASSERT_GT(needed, 0U);
    std::vector<kernels::Candidate> all;
    for (uint32_t id = 0; id < kReal; ++id)
      all.push_back({logits[id] + 0.0F, static_cast<int32_t>(id)});
    std::sort(all.begin(), all.end(), kernels::ComesBefore);
    if (all[0].token_id == static_cast<int32_t>(kEos)) ++eos_on_top;
    // Others of the step may need more.
    all.resize(needed + random() % 3);
    ASSERT_EQ(sampler.SampleCandidates(all, trial, params, 3),
              sampler.Sample({.logits = logits, .position = trial}, params, 3))
        << trial;
  }
  EXPECT_GT(eos_on_top, 100U);
}

TEST(Sampler, WhatCandidatesCannotDecideNeedsTheRow) {
  EXPECT_EQ(CandidatesNeeded({}), 1U);
  EXPECT_EQ(CandidatesNeeded({.mask_eos = true}), 2U);
  EXPECT_EQ(CandidatesNeeded({.temperature = 1.0F, .top_k = 64}), 64U);
  EXPECT_EQ(CandidatesNeeded({.temperature = 1.0F, .top_k = 64, .mask_eos = true}), 0U);
  EXPECT_EQ(CandidatesNeeded({.temperature = 1.0F, .top_k = 65}), 0U);
  EXPECT_EQ(CandidatesNeeded({.temperature = 1.0F, .top_p = 0.5F}), 0U);
  EXPECT_EQ(CandidatesNeeded({.top_k = 65}), 1U);  // greedy
  EXPECT_EQ(CandidatesNeeded({.want_logprobs = true}), 0U);
  EXPECT_EQ(CandidatesNeeded({.repetition_penalty = 1.1F}), 0U);
  EXPECT_EQ(CandidatesNeeded({.frequency_penalty = 0.1F}), 0U);
  EXPECT_EQ(CandidatesNeeded({.presence_penalty = 0.1F}), 0U);
  EXPECT_EQ(CandidatesNeeded({.logit_bias = {{1, 1.0F}}}), 0U);
}

TEST(Sampler, CandidatesThatAreNoNumberAreFlagged) {
  Sampler sampler(8, 8, 0);
  const kernels::Candidate bad{.logit = std::numeric_limits<float>::quiet_NaN(), .token_id = -1};
  const std::vector<SampledToken> tokens = sampler.SampleCandidates({&bad, 1}, 0, {}, 2);
  ASSERT_EQ(tokens.size(), 2U);
  EXPECT_TRUE(tokens[0].nonfinite_logits);
  EXPECT_TRUE(tokens[1].nonfinite_logits);
  EXPECT_EQ(tokens[1].draw_index, 1U);
}

TEST(Sampler, ADrawDependsOnSeedSampleAndPositionAlone) {
  std::mt19937 random(4);
  const std::vector<float> logits = RandomLogits(random, 500);
  const std::vector<float> others = RandomLogits(random, 500);
  Sampler fresh(500, 500, 0);
  Sampler used(500, 500, 0);
  int differences = 0;
  for (uint32_t position = 0; position < 50; ++position) {
    const SamplingParams params{.temperature = 1.0F, .seed = 7, .sample_index = 2};
    (void)Sample(used, others, position + 1, {.temperature = 0.3F, .top_k = 5, .seed = 1});
    EXPECT_EQ(Sample(fresh, logits, position, params), Sample(used, logits, position, params));
    differences +=
        Sample(fresh, logits, position, params).token_id !=
        Sample(fresh, logits, position, {.temperature = 1.0F, .seed = 7, .sample_index = 3})
            .token_id;
  }
  EXPECT_GT(differences, 25);
}

}  // namespace
}  // namespace phi::shard
