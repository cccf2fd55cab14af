#include "shard/sampling/sampler.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>

#include "kernels/base/check.h"
#include "shard/sampling/philox.h"

namespace phi::shard {
namespace {

// Bits whose unsigned order is the reverse of the order of finite floats; both zeros are one value.
uint32_t DescendingBits(float value) {
  const auto bits = std::bit_cast<uint32_t>(value + 0.0F);
  const uint32_t ascending = (bits >> 31) != 0 ? ~bits : bits | 0x80000000U;
  return ~ascending;
}

uint64_t MakeCandidate(float logit, uint32_t id) {
  return uint64_t{DescendingBits(logit)} << 32 | id;
}
uint32_t CandidateId(uint64_t candidate) { return static_cast<uint32_t>(candidate); }
float CandidateLogit(uint64_t candidate) {
  const auto ascending = ~static_cast<uint32_t>(candidate >> 32);
  return std::bit_cast<float>((ascending >> 31) != 0 ? ascending & 0x7fffffffU : ~ascending);
}

std::vector<SampledToken> MakeTokens(uint32_t num_draws, bool finite) {
  std::vector<SampledToken> tokens(num_draws);
  for (uint32_t i = 0; i < num_draws; ++i) {
    tokens[i].draw_index = i;
    tokens[i].nonfinite_logits = !finite;
  }
  return tokens;
}

bool AllFinite(std::span<const float> logits) {
  constexpr uint32_t kExponent = 0x7f800000;
  bool finite = true;
  for (const float logit : logits)
    finite &= (std::bit_cast<uint32_t>(logit) & kExponent) != kExponent;
  return finite;
}

// Sorts by the upper 32 bits, equal ones in the order they had. A radix sort takes a quarter of
// std::sort's time at 51,200 candidates, and the same time whatever the logits.
void SortByUpperHalf(std::vector<uint64_t>& values, std::vector<uint64_t>& scratch) {
  constexpr int kPasses = 3;
  constexpr int kBits = 11;
  constexpr uint64_t kBuckets = uint64_t{1} << kBits;
  std::array<std::array<uint32_t, kBuckets>, kPasses> starts{};
  const auto bucket_of = [](uint64_t value, int pass) {
    return (value >> (32 + pass * kBits)) % kBuckets;
  };
  for (const uint64_t value : values) {
    for (int pass = 0; pass < kPasses; ++pass)
      ++starts[static_cast<size_t>(pass)][bucket_of(value, pass)];
  }
  scratch.resize(values.size());
  for (int pass = 0; pass < kPasses; ++pass) {
    auto& start = starts[static_cast<size_t>(pass)];
    uint32_t total = 0;
    for (uint32_t& count : start) total += std::exchange(count, total);
    for (const uint64_t value : values) scratch[start[bucket_of(value, pass)]++] = value;
    values.swap(scratch);
  }
}

// How many of `weights`, highest first and adding up to `total`, top_p and min_p leave; their sum
// goes to `mass`.
size_t Truncate(std::span<const double> weights,
                double total,
                const SamplingParams& params,
                double& mass) {
  mass = total;
  if (params.top_p >= 1.0F && params.min_p <= 0.0F) return weights.size();
  const double wanted = params.top_p >= 1.0F ? total : static_cast<double>(params.top_p) * total;
  // The highest weight is 1, so that min_p is a bound on the weights themselves.
  const double weight_min = static_cast<double>(params.min_p);
  mass = 0;
  size_t kept = 0;
  while (kept < weights.size() && mass < wanted && weights[kept] >= weight_min)
    mass += weights[kept++];
  return kept;
}

}  // namespace

uint32_t CandidatesNeeded(const SamplingParams& params) {
  if (params.want_logprobs || HasPenalties(params) || !params.logit_bias.empty()) return 0;
  uint32_t needed = 1;
  if (params.temperature > 0.0F) {
    if (params.top_k == 0 || params.top_k > kernels::kMaxCandidates) return 0;
    needed = params.top_k;
  }
  // One of them may be masked.
  if (params.mask_eos) ++needed;
  return needed <= kernels::kMaxCandidates ? needed : 0;
}

Sampler::Sampler(uint32_t vocab_size, uint32_t num_real_tokens, uint32_t eos_token_id)
    : num_real_tokens_(num_real_tokens), eos_token_id_(eos_token_id), adjuster_(vocab_size) {
  PHI_CHECK(num_real_tokens >= 1 && num_real_tokens <= vocab_size,
            "%u real tokens of %u",
            num_real_tokens,
            vocab_size);
  candidates_.reserve(num_real_tokens);
  sort_scratch_.reserve(num_real_tokens);
  weights_.reserve(num_real_tokens);
}

std::vector<SampledToken> Sampler::Sample(const SamplerRow& row,
                                          const SamplingParams& params,
                                          uint32_t num_draws) {
  const bool finite = AllFinite(row.logits);
  std::vector<SampledToken> tokens = MakeTokens(num_draws, finite);
  if (!finite) return tokens;
  adjuster_.Adjust(params, row.history, row.num_prompt_tokens, row.logits);
  if (params.temperature > 0.0F) {
    SortCandidates(row.logits, params);
    DrawAll(params, row.position, tokens);
  } else {
    const uint32_t best = Greedy(row.logits, params);
    for (SampledToken& token : tokens) token.token_id = best;
  }
  adjuster_.Restore(row.logits);
  if (params.want_logprobs) AddLogprobs(row.logits, params, tokens);
  return tokens;
}

std::vector<SampledToken> Sampler::SampleCandidates(std::span<const kernels::Candidate> row,
                                                    uint32_t position,
                                                    const SamplingParams& params,
                                                    uint32_t num_draws) {
  const bool finite = !std::isnan(row.front().logit);
  std::vector<SampledToken> tokens = MakeTokens(num_draws, finite);
  if (!finite) return tokens;
  candidates_.clear();
  for (const kernels::Candidate& candidate : row) {
    const auto id = static_cast<uint32_t>(candidate.token_id);
    if (!Masked(id, params)) candidates_.push_back(MakeCandidate(candidate.logit, id));
  }
  if (params.temperature > 0.0F) {
    DrawAll(params, position, tokens);
  } else {
    for (SampledToken& token : tokens) token.token_id = CandidateId(candidates_.front());
  }
  return tokens;
}

void Sampler::DrawAll(const SamplingParams& params,
                      uint32_t position,
                      std::span<SampledToken> tokens) {
  const double mass = KeepCandidates(params);
  for (SampledToken& token : tokens) {
    const uint32_t sample = params.sample_index + token.draw_index;
    token.token_id = Draw(mass, UniformDraw(params.seed, sample, position));
  }
}

uint32_t Sampler::Greedy(std::span<const float> logits, const SamplingParams& params) const {
  uint32_t best = num_real_tokens_;
  for (uint32_t id = 0; id < num_real_tokens_; ++id) {
    if (Masked(id, params)) continue;
    if (best == num_real_tokens_ || logits[id] > logits[best]) best = id;
  }
  return best;
}

double Sampler::KeepCandidates(const SamplingParams& params) {
  if (params.top_k > 0 && params.top_k < candidates_.size()) candidates_.resize(params.top_k);

  const auto highest = static_cast<double>(CandidateLogit(candidates_.front()));
  weights_.clear();
  double total = 0;
  for (const uint64_t candidate : candidates_) {
    const auto logit = static_cast<double>(CandidateLogit(candidate));
    weights_.push_back(std::exp((logit - highest) / static_cast<double>(params.temperature)));
    total += weights_.back();
  }
  double mass = 0;
  weights_.resize(Truncate(weights_, total, params, mass));
  return mass;
}

uint32_t Sampler::Draw(double mass, double uniform) const {
  const double target = uniform * mass;
  const size_t last = weights_.size() - 1;
  double passed = 0;
  size_t i = 0;
  while (i < last && (passed += weights_[i]) <= target) ++i;
  return CandidateId(candidates_[i]);
}

void Sampler::SortCandidates(std::span<const float> logits, const SamplingParams& params) {
  candidates_.clear();
  for (uint32_t id = 0; id < num_real_tokens_; ++id) {
    if (Masked(id, params)) continue;
    candidates_.push_back(MakeCandidate(logits[id], id));
  }
  SortByUpperHalf(candidates_, sort_scratch_);
}

bool Sampler::Masked(uint32_t id, const SamplingParams& params) const {
  // A vocabulary of nothing but EOS keeps it: something has to be drawn. (Requests that ask for
  // this are refused as ALL_TOKENS_BANNED before they come here.)
  return params.mask_eos && id == eos_token_id_ && num_real_tokens_ > 1;
}

void Sampler::AddLogprobs(std::span<const float> logits,
                          const SamplingParams& params,
                          std::span<SampledToken> tokens) const {
  const auto highest = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  double total = 0;
  for (const float logit : logits) total += std::exp(static_cast<double>(logit) - highest);
  const double log_total = std::log(total);
  // Finite like the logits, however far they lie apart.
  const auto logprob = [&](uint32_t id) {
    constexpr double kLowest = std::numeric_limits<float>::lowest();
    return static_cast<float>(
        std::max(static_cast<double>(logits[id]) - highest - log_total, kLowest));
  };

  std::vector<TokenLogprob> top;
  TakeTop(logits, params.num_top_logprobs, top);
  for (TokenLogprob& entry : top) entry.logprob = logprob(entry.token_id);
  // Different logits may round to one log-probability, and what is reported has to be in the order
  // that is promised.
  std::stable_sort(top.begin(), top.end(), [](const TokenLogprob& a, const TokenLogprob& b) {
    return a.logprob != b.logprob ? a.logprob > b.logprob : a.token_id < b.token_id;
  });
  for (SampledToken& token : tokens) {
    token.logprob = logprob(token.token_id);
    token.top = top;
  }
}

void Sampler::TakeTop(std::span<const float> logits,
                      size_t count,
                      std::vector<TokenLogprob>& top) const {
  top.reserve(count);
  for (uint32_t id = 0; id < num_real_tokens_ && count > 0; ++id) {
    const float logit = logits[id];
    if (top.size() == count) {
      if (logit <= top.back().logprob) continue;
      top.pop_back();
    }
    const auto after = std::find_if(
        top.begin(), top.end(), [&](const TokenLogprob& e) { return e.logprob < logit; });
    top.insert(after, TokenLogprob{.token_id = id, .logprob = logit});
  }
}

}  // namespace phi::shard
