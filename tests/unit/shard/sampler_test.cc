#include "shard/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "shard/philox.h"

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

// The sampler as docs/api.md says it, slowly: one full sort, one list after another.
struct Candidate {
  uint32_t id;
  float logit;
  double weight;
};

bool Before(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

std::vector<Candidate> ReferenceKept(const std::vector<float>& logits,
                                     uint32_t num_real,
                                     uint32_t eos,
                                     const SamplingParams& params) {
  std::vector<Candidate> kept;
  for (uint32_t id = 0; id < num_real; ++id) {
    if (!(params.mask_eos && id == eos)) kept.push_back({id, logits[id], 0});
  }
  std::sort(kept.begin(), kept.end(), Before);
  if (params.top_k > 0) kept.resize(std::min<size_t>(params.top_k, kept.size()));
  double total = 0;
  for (Candidate& c : kept) {
    c.weight = std::exp((static_cast<double>(c.logit) - static_cast<double>(kept[0].logit)) /
                        static_cast<double>(params.temperature));
    total += c.weight;
  }
  if (params.top_p < 1) {
    double mass = 0;
    size_t count = 0;
    while (count < kept.size() && mass < static_cast<double>(params.top_p) * total)
      mass += kept[count++].weight;
    kept.resize(count);
  }
  std::erase_if(kept,
                [&](const Candidate& c) { return c.weight < static_cast<double>(params.min_p); });
  return kept;
}

uint32_t ReferenceDraw(const std::vector<Candidate>& kept, double uniform) {
  double total = 0;
  for (const Candidate& c : kept) total += c.weight;
  double passed = 0;
  for (const Candidate& c : kept) {
    passed += c.weight;
    if (passed > uniform * total) return c.id;
  }
  return kept.back().id;
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

TEST(Sampler, EqualsTheSlowReference) {
  std::mt19937 random(5);
  for (int round = 0; round < 3000; ++round) {
    const auto vocab_size = static_cast<uint32_t>(2 + random() % 300);
    const auto num_real = static_cast<uint32_t>(2 + random() % (vocab_size - 1));
    const auto eos = static_cast<uint32_t>(random() % num_real);
    const std::vector<float> logits = RandomLogits(random, vocab_size);
    const SamplingParams params{
        .temperature = 0.1F + static_cast<float>(random() % 20) / 10.0F,
        .top_k = random() % 2 == 0 ? 0 : static_cast<uint32_t>(random() % vocab_size),
        .top_p = random() % 2 == 0 ? 1.0F : static_cast<float>(1 + random() % 100) / 100.0F,
        .min_p = random() % 2 == 0 ? 0.0F : static_cast<float>(random() % 100) / 100.0F,
        .seed = random(),
        .sample_index = static_cast<uint32_t>(random() % 4),
        .mask_eos = random() % 2 == 0,
    };
    const auto position = static_cast<uint32_t>(random() % 2048);
    Sampler sampler(vocab_size, num_real, eos);
    const uint32_t drawn = sampler.Sample(logits, position, params).token_id;
    const std::vector<Candidate> kept = ReferenceKept(logits, num_real, eos, params);
    EXPECT_EQ(drawn, ReferenceDraw(kept, UniformDraw(params.seed, params.sample_index, position)))
        << round;
  }
}

// The drawn tokens follow the softmax at the temperature: chi-square of 8 outcomes, 7 degrees of
// freedom.
TEST(Sampler, FrequenciesFollowTheSoftmax) {
  const std::vector<float> logits{0.0F, 1.0F, -1.0F, 2.0F, 0.5F, -0.5F, 1.5F, -2.0F};
  constexpr int kDraws = 20000;
  Sampler sampler(8, 8, 0);
  std::vector<int> counts(8);
  for (uint32_t position = 0; position < kDraws; ++position) {
    ++counts[sampler.Sample(logits, position, {.temperature = 0.8F, .seed = 12345}).token_id];
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
  EXPECT_EQ(sampler.Sample(logits, 0, {}).token_id, 1U);
  EXPECT_EQ(sampler.Sample(logits, 0, {.mask_eos = true}).token_id, 2U);
}

TEST(Sampler, PaddingRowsAreNeverDrawn) {
  std::mt19937 random(3);
  Sampler sampler(64, 10, 0);
  std::vector<float> logits = RandomLogits(random, 64);
  for (size_t id = 10; id < 64; ++id) logits[id] = 50.0F;
  for (uint32_t position = 0; position < 500; ++position) {
    EXPECT_LT(sampler.Sample(logits, position, {.temperature = 2.0F, .seed = 1}).token_id, 10U);
    EXPECT_LT(sampler.Sample(logits, position, {}).token_id, 10U);
  }
}

TEST(Sampler, LogprobsAreOverAllRowsAndBeforeMasks) {
  // Row 3 is padding and takes half of the mass.
  const std::vector<float> logits{0.0F, std::log(2.0F), 0.0F, std::log(4.0F)};
  Sampler sampler(4, 3, 1);
  const SampledToken token =
      sampler.Sample(logits, 0, {.num_top_logprobs = 3, .want_logprobs = true, .mask_eos = true});
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
    const SampledToken token = sampler.Sample(
        logits, 0, {.num_top_logprobs = count, .want_logprobs = true, .mask_eos = round % 2 == 0});
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
      EXPECT_TRUE(sampler.Sample(logits, 0, {}).nonfinite_logits);
    }
  }
  EXPECT_FALSE(sampler.Sample(std::vector<float>{1.0F, 2.0F, 3.0F, 4.0F}, 0, {}).nonfinite_logits);
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
    (void)used.Sample(others, position + 1, {.temperature = 0.3F, .top_k = 5, .seed = 1});
    EXPECT_EQ(fresh.Sample(logits, position, params), used.Sample(logits, position, params));
    differences +=
        fresh.Sample(logits, position, params).token_id !=
        fresh.Sample(logits, position, {.temperature = 1.0F, .seed = 7, .sample_index = 3})
            .token_id;
  }
  EXPECT_GT(differences, 25);
}

}  // namespace
}  // namespace phi::shard
