#include "shard/sampling/token_adjuster.h"

#include <algorithm>
#include <limits>

namespace phi::shard {
namespace {

// A tiny repetition penalty takes a logit beyond the largest float.
float Finite(float logit) {
  constexpr float kLargest = std::numeric_limits<float>::max();
  return std::clamp(logit, -kLargest, kLargest);
}

float Penalise(float logit, uint32_t output_count, const SamplingParams& params) {
  const float repetition = params.repetition_penalty;
  logit = Finite(logit > 0.0F ? logit / repetition : logit * repetition);
  if (output_count == 0) return logit;
  logit = Finite(logit - params.frequency_penalty * static_cast<float>(output_count));
  return Finite(logit - params.presence_penalty);
}

}  // namespace

TokenAdjuster::TokenAdjuster(uint32_t vocab_size) : entry_of_(vocab_size, 0) {
  touched_.reserve(vocab_size);
}

TokenAdjuster::Touched& TokenAdjuster::Touch(uint32_t token_id, std::span<const float> logits) {
  uint32_t& entry = entry_of_[token_id];
  if (entry == 0) {
    touched_.push_back({.token_id = token_id, .logit = logits[token_id]});
    entry = static_cast<uint32_t>(touched_.size());
  }
  return touched_[entry - 1];
}

void TokenAdjuster::Adjust(const SamplingParams& params,
                           std::span<const uint32_t> history,
                           uint32_t num_prompt_tokens,
                           std::span<float> logits) {
  if (HasPenalties(params)) {
    for (size_t i = 0; i < history.size(); ++i)
      Touch(history[i], logits).output_count += i >= num_prompt_tokens ? 1 : 0;
    for (const Touched& token : touched_)
      logits[token.token_id] = Penalise(token.logit, token.output_count, params);
  }
  for (const LogitBias& bias : params.logit_bias) {
    // Touched before it changes: what is kept is the logit as it came.
    Touch(bias.token_id, logits);
    logits[bias.token_id] = Finite(logits[bias.token_id] + bias.bias);
  }
}

void TokenAdjuster::Restore(std::span<float> logits) {
  for (const Touched& token : touched_) {
    logits[token.token_id] = token.logit;
    entry_of_[token.token_id] = 0;
  }
  touched_.clear();
}

}  // namespace phi::shard
