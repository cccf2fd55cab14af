// The sampler against a slow, obvious one, written from docs/api.md alone: one list after another,
// one full sort, no memory kept.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <set>

#include "shard/sampling/philox.h"
#include "shard/sampling/sampler.h"

namespace phi::shard {
namespace {

using Limits = std::numeric_limits<float>;

// A row to draw from, and what is asked of it.
struct Question {
  std::vector<float> logits;
  uint32_t num_real = 0;
  uint32_t eos = 0;
  uint32_t position = 0;
  std::vector<uint32_t> history;
  uint32_t num_prompt_tokens = 0;
  SamplingParams params;
};

struct Candidate {
  uint32_t id;
  double logit;
  double weight;
};

// Rounded to float32 and kept finite, as each step on the logits is.
double Rounded(double logit) {
  const auto largest = static_cast<double>(Limits::max());
  return static_cast<double>(static_cast<float>(std::clamp(logit, -largest, largest)));
}

std::vector<double> AdjustedLogits(const Question& question) {
  const SamplingParams& params = question.params;
  std::vector<double> logits(question.logits.begin(), question.logits.end());
  for (const uint32_t id : std::set(question.history.begin(), question.history.end())) {
    const auto penalty = static_cast<double>(params.repetition_penalty);
    logits[id] = Rounded(logits[id] > 0 ? logits[id] / penalty : logits[id] * penalty);
  }
  std::map<uint32_t, int> output;
  for (size_t i = question.num_prompt_tokens; i < question.history.size(); ++i)
    ++output[question.history[i]];
  for (const auto& [id, count] : output) {
    const double all = Rounded(static_cast<double>(params.frequency_penalty) * count);
    logits[id] = Rounded(logits[id] - all);
    logits[id] = Rounded(logits[id] - static_cast<double>(params.presence_penalty));
  }
  for (const LogitBias& bias : params.logit_bias)
    logits[bias.token_id] = Rounded(logits[bias.token_id] + static_cast<double>(bias.bias));
  return logits;
}

// The tokens that are left, the most likely first, with their shares of any mass.
std::vector<Candidate> Kept(const Question& question) {
  const SamplingParams& params = question.params;
  const std::vector<double> logits = AdjustedLogits(question);
  std::vector<Candidate> kept;
  for (uint32_t id = 0; id < question.num_real; ++id) {
    if (params.mask_eos && id == question.eos && question.num_real > 1) continue;
    kept.push_back({.id = id, .logit = logits[id], .weight = 0});
  }
  std::sort(kept.begin(), kept.end(), [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  });
  if (params.temperature == 0.0F) kept.resize(1);
  if (params.top_k > 0 && params.top_k < kept.size()) kept.resize(params.top_k);
  double total = 0;
  for (Candidate& candidate : kept) {
    const double distance = candidate.logit - kept[0].logit;
    candidate.weight =
        distance == 0 ? 1 : std::exp(distance / static_cast<double>(params.temperature));
    total += candidate.weight;
  }
  if (params.top_p < 1.0F) {
    double mass = 0;
    size_t count = 0;
    while (mass < static_cast<double>(params.top_p) * total) mass += kept[count++].weight;
    kept.resize(count);
  }
  std::erase_if(kept, [&](const Candidate& candidate) {
    return candidate.weight < static_cast<double>(params.min_p);
  });
  return kept;
}

uint32_t SlowDraw(const std::vector<Candidate>& kept, double uniform) {
  double total = 0;
  for (const Candidate& candidate : kept) total += candidate.weight;
  double passed = 0;
  for (const Candidate& candidate : kept) {
    passed += candidate.weight;
    if (passed > uniform * total) return candidate.id;
  }
  return kept.back().id;
}

double SlowLogprob(const std::vector<float>& logits, uint32_t id) {
  const auto highest = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  double total = 0;
  for (const float logit : logits) total += std::exp(static_cast<double>(logit) - highest);
  return Rounded(static_cast<double>(logits[id]) - highest - std::log(total));
}

class Generator {
 public:
  explicit Generator(uint32_t seed) : random_(seed) {}

  Question Next() {
    Question question;
    const auto vocab_size = static_cast<uint32_t>(Pick({1, 2, 3, 17, 60, 300}));
    question.num_real = Pick({0, 1}) == 0 ? vocab_size : 1 + Below(vocab_size);
    question.eos = Below(question.num_real);
    question.position = Below(2048);
    question.logits = Logits(vocab_size);
    const uint32_t history_size = Below(40);
    for (uint32_t i = 0; i < history_size; ++i) question.history.push_back(Below(vocab_size));
    question.num_prompt_tokens = Below(history_size + 1);
    question.params = Params(vocab_size);
    return question;
  }

 private:
  uint32_t Below(uint32_t end) { return static_cast<uint32_t>(random_() % end); }
  float Pick(std::initializer_list<float> values) {
    return values.begin()[Below(static_cast<uint32_t>(values.size()))];
  }

  // Of one kind: like a model's; coarse, so that ties are frequent; all equal; with both zeros and
  // the smallest numbers; the largest ones, which do as infinities.
  std::vector<float> Logits(uint32_t size) {
    std::normal_distribution<float> normal(0.0F, 4.0F);
    const uint32_t kind = Below(5);
    const float equal = Pick({0.0F, -3.5F, 7.0F, -Limits::max()});
    std::vector<float> logits(size);
    for (float& logit : logits) {
      if (kind == 0) logit = normal(random_);
      if (kind == 1) logit = static_cast<float>(static_cast<int>(Below(41)) - 20) / 4.0F;
      if (kind == 2) logit = equal;
      if (kind == 3) logit = Pick({0.0F, -0.0F, Limits::denorm_min(), -Limits::min(), 1e-20F});
      if (kind == 4) logit = Pick({Limits::max(), -Limits::max(), -1e38F, 3e37F, 1.0F, -1e30F});
    }
    return logits;
  }

  SamplingParams Params(uint32_t vocab_size) {
    SamplingParams params{
        .temperature = Pick({0.0F, Limits::denorm_min(), 1e-6F, 0.3F, 0.7F, 1.0F, 2.0F}),
        .top_k = Pick({0, 1}) == 0 ? 0 : Below(vocab_size + 1),
        .top_p = Pick({1.0F, 1.0F, Limits::denorm_min(), 1e-6F, 0.3F, 0.5F, 0.9F, 0.99999994F}),
        .min_p = Pick({0.0F, 0.0F, Limits::denorm_min(), 0.05F, 0.5F, 1.0F}),
        .seed = random_(),
        .sample_index = Below(16),
        .mask_eos = Pick({0, 1}) == 1,
        .repetition_penalty = Pick({1.0F, 1.0F, Limits::denorm_min(), 0.5F, 1.3F, 2.0F}),
        .frequency_penalty = Pick({0.0F, 0.0F, -2.0F, 0.1F, 0.7F, 2.0F}),
        .presence_penalty = Pick({0.0F, 0.0F, -2.0F, 0.3F, 2.0F}),
    };
    std::set<uint32_t> biased;
    for (uint32_t i = Below(8); i > 0; --i) biased.insert(Below(vocab_size));
    for (const uint32_t id : biased)
      params.logit_bias.push_back({id, Pick({-100.0F, -1.3F, 0.0F, 0.5F, 2.0F, 100.0F})});
    return params;
  }

  std::mt19937 random_;
};

TEST(SamplerReference, EveryDrawOfEveryCombination) {
  Generator generator(20);
  std::map<std::string, int> seen;
  for (int round = 0; round < 20000; ++round) {
    const Question question = generator.Next();
    Sampler sampler(static_cast<uint32_t>(question.logits.size()), question.num_real, question.eos);
    std::vector<float> logits = question.logits;
    const SamplerRow row = {.logits = logits,
                            .position = question.position,
                            .history = question.history,
                            .num_prompt_tokens = question.num_prompt_tokens};
    constexpr uint32_t kDraws = 3;
    const std::vector<SampledToken> tokens = sampler.Sample(row, question.params, kDraws);
    ASSERT_EQ(tokens.size(), kDraws);
    ASSERT_EQ(logits, question.logits) << "not put back in round " << round;
    const std::vector<Candidate> kept = Kept(question);
    for (uint32_t i = 0; i < kDraws; ++i) {
      const double uniform =
          UniformDraw(question.params.seed, question.params.sample_index + i, question.position);
      ASSERT_FALSE(tokens[i].nonfinite_logits);
      ASSERT_EQ(tokens[i].token_id, SlowDraw(kept, uniform)) << "round " << round << " draw " << i;
    }
    ++seen[kept.size() == 1 ? "one left" : kept.size() == question.num_real ? "all" : "some"];
  }
  // The generator reaches what it is for.
  for (const char* outcome : {"one left", "all", "some"}) EXPECT_GT(seen[outcome], 500) << outcome;
}

TEST(SamplerReference, LogprobsOfTheLogitsAsTheyCame) {
  Generator generator(21);
  for (int round = 0; round < 2000; ++round) {
    Question question = generator.Next();
    question.params.want_logprobs = true;
    question.params.num_top_logprobs = 20;
    Sampler sampler(static_cast<uint32_t>(question.logits.size()), question.num_real, question.eos);
    std::vector<float> logits = question.logits;
    const SamplerRow row = {.logits = logits,
                            .position = question.position,
                            .history = question.history,
                            .num_prompt_tokens = question.num_prompt_tokens};
    const SampledToken token = sampler.Sample(row, question.params, 1).at(0);
    // Logits of 1e38 have log-probabilities that differ by their own rounding.
    const auto near = [&](uint32_t id, float logprob) {
      const double expected = SlowLogprob(question.logits, id);
      EXPECT_NEAR(logprob, expected, 1e-6 + std::abs(expected) * 1e-6) << round;
    };
    near(token.token_id, token.logprob);
    ASSERT_EQ(token.top.size(), std::min(20U, question.num_real));
    for (const TokenLogprob& entry : token.top) near(entry.token_id, entry.logprob);
    EXPECT_TRUE(std::is_sorted(
        token.top.begin(), token.top.end(), [](const TokenLogprob& a, const TokenLogprob& b) {
          return a.logprob > b.logprob;
        }));
  }
}

}  // namespace
}  // namespace phi::shard
