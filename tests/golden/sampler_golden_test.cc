// What the sampler draws against what Hugging Face's logits processors leave and how likely they
// make it, which tools/golden/sampler_vectors.py stored.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <vector>

#include "shard/sampling/philox.h"
#include "shard/sampling/sampler.h"

namespace phi::shard {
namespace {

using nlohmann::json;

// Their probabilities are sums of float32's; a draw this close to the border of two tokens may fall
// to either.
constexpr double kBorder = 1e-5;
constexpr uint32_t kDraws = 3000;

struct Kept {
  uint32_t id = 0;
  double probability = 0;
};

SamplingParams ParamsOf(const json& stored) {
  SamplingParams params{.temperature = stored["temperature"],
                        .top_k = stored["top_k"],
                        .top_p = stored["top_p"],
                        .min_p = stored["min_p"],
                        .seed = 77,
                        .mask_eos = stored["mask_eos"],
                        .repetition_penalty = stored["repetition_penalty"]};
  for (const json& bias : stored["logit_bias"]) params.logit_bias.push_back({bias[0], bias[1]});
  return params;
}

// The token whose share of the unit interval `uniform` falls in, walked from the most likely one;
// nothing where that is a matter of rounding.
std::optional<uint32_t> TokenAt(const std::vector<Kept>& kept, double uniform) {
  double passed = 0;
  for (const Kept& token : kept) {
    passed += token.probability;
    const bool is_last = &token == &kept.back();
    if (!is_last && std::abs(uniform - passed) < kBorder) return std::nullopt;
    if (uniform < passed || is_last) return token.id;
  }
  return std::nullopt;
}

TEST(SamplerGolden, DrawsAsHuggingFacesProcessorsLeaveIt) {
  std::ifstream file(PHI_SOURCE_DIR "/tests/golden/sampler_vectors.json");
  const json stored = json::parse(file);
  Sampler sampler(stored["vocab_size"], stored["num_real_tokens"], stored["eos_token_id"]);
  ASSERT_GE(stored["cases"].size(), 40U);
  for (size_t index = 0; index < stored["cases"].size(); ++index) {
    const json& vector = stored["cases"][index];
    std::vector<float> logits = vector["logits"];
    const std::vector<uint32_t> history = vector["history"];
    const SamplingParams params = ParamsOf(vector);
    std::vector<Kept> kept;
    std::set<uint32_t> likely;
    for (const json& token : vector["kept"]) {
      kept.push_back({.id = token[0], .probability = token[1]});
      if (token[1] > 0.01) likely.insert(kept.back().id);
    }
    uint32_t unclear = 0;
    for (uint32_t position = 0; position < kDraws; ++position) {
      const SamplerRow row = {.logits = logits,
                              .position = position,
                              .history = history,
                              .num_prompt_tokens = vector["num_prompt_tokens"]};
      const uint32_t drawn = sampler.Sample(row, params, 1).at(0).token_id;
      likely.erase(drawn);
      const auto expected = TokenAt(kept, UniformDraw(params.seed, 0, position));
      if (expected.has_value()) {
        ASSERT_EQ(drawn, *expected) << "case " << index << " position " << position;
      } else {
        ++unclear;
      }
    }
    EXPECT_LE(unclear, kDraws / 100) << "case " << index;
    EXPECT_TRUE(likely.empty()) << "case " << index << ": never drawn " << *likely.begin();
  }
}

}  // namespace
}  // namespace phi::shard
