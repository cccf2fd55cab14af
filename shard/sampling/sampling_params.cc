#include "shard/sampling/sampling_params.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "absl/strings/str_format.h"

namespace phi::shard {
namespace {

// False for NaN.
bool Within(float value, float min, float max) { return value >= min && value <= max; }

absl::Status CheckLogitBias(std::span<const LogitBias> biases, uint32_t vocab_size) {
  if (biases.size() > kLogitBiasMax) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%d biased tokens; at most %u", biases.size(), kLogitBiasMax));
  }
  std::vector<uint32_t> token_ids;
  for (const LogitBias& bias : biases) {
    if (!Within(bias.bias, -kLargestLogitBias, kLargestLogitBias)) {
      return absl::InvalidArgumentError(
          absl::StrFormat("bias %g of token %u", bias.bias, bias.token_id));
    }
    if (bias.token_id >= vocab_size) {
      return absl::InvalidArgumentError(
          absl::StrFormat("bias of token %u of %u", bias.token_id, vocab_size));
    }
    token_ids.push_back(bias.token_id);
  }
  std::sort(token_ids.begin(), token_ids.end());
  if (std::adjacent_find(token_ids.begin(), token_ids.end()) != token_ids.end())
    return absl::InvalidArgumentError("a token has two biases");
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckSamplingParams(const SamplingParams& params, uint32_t vocab_size) {
  const bool temperature_ok = params.temperature >= 0.0F && std::isfinite(params.temperature);
  const bool top_p_ok = params.top_p > 0.0F && params.top_p <= 1.0F;
  if (!temperature_ok || !top_p_ok || !Within(params.min_p, 0.0F, 1.0F)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("temperature %g, top_p %g or min_p %g is out of range",
                        params.temperature,
                        params.top_p,
                        params.min_p));
  }
  const bool repetition_ok =
      params.repetition_penalty > 0.0F && params.repetition_penalty <= kLargestPenalty;
  if (!repetition_ok || !Within(params.frequency_penalty, -kLargestPenalty, kLargestPenalty) ||
      !Within(params.presence_penalty, -kLargestPenalty, kLargestPenalty)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("penalty of repetition %g, frequency %g or presence %g is out of range",
                        params.repetition_penalty,
                        params.frequency_penalty,
                        params.presence_penalty));
  }
  if (params.top_k > vocab_size || params.num_top_logprobs > kTopLogprobsMax) {
    return absl::InvalidArgumentError(absl::StrFormat("top_k %u of %u or num_top_logprobs %u of %u",
                                                      params.top_k,
                                                      vocab_size,
                                                      params.num_top_logprobs,
                                                      kTopLogprobsMax));
  }
  return CheckLogitBias(params.logit_bias, vocab_size);
}

}  // namespace phi::shard
