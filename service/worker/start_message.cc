#include "service/worker/start_message.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include "kernels/base/status_macros.h"
#include "service/api/error.h"
#include "service/api/generation_parameters.h"

namespace phi::service {
namespace {

static_assert(kMaxSamples == shard::kMaxDraws);
static_assert(kMaxLogitBias == shard::kLogitBiasMax);

// Text is the router's: what needs it cannot be carried out here.
absl::Status RefuseRouterFields(const phi::v1::GenerationParameters& parameters) {
  const auto refuse = [](std::string_view field) {
    return MakeFieldError(ErrorReason::kUnsupportedField,
                          field,
                          "this is the router's own; workers know tokens only");
  };
  if (parameters.stop_size() > 0) return refuse("parameters.stop");
  if (parameters.stop_conditions_size() > 0) return refuse("parameters.stop_conditions");
  if (parameters.has_truncate_prompt()) return refuse("parameters.truncate_prompt");
  return absl::OkStatus();
}

shard::SamplingParams ToSampling(const GenerationParameters& parameters) {
  shard::SamplingParams sampling;
  sampling.temperature = parameters.temperature;
  sampling.top_k = parameters.top_k;
  sampling.top_p = parameters.top_p;
  sampling.min_p = parameters.min_p;
  sampling.repetition_penalty = parameters.repetition_penalty;
  sampling.frequency_penalty = parameters.frequency_penalty;
  sampling.presence_penalty = parameters.presence_penalty;
  for (const TokenBias& entry : parameters.logit_bias)
    sampling.logit_bias.push_back({.token_id = entry.token_id, .bias = entry.bias});
  sampling.seed = parameters.seed.value_or(0);
  sampling.want_logprobs = parameters.logprobs.has_value();
  sampling.num_top_logprobs = parameters.logprobs.value_or(0);
  return sampling;
}

}  // namespace

absl::StatusOr<EngineRequest> ToEngineRequest(const phi::worker::v1::StartGeneration& message,
                                              const SchedulerLimits& limits,
                                              SteadyTime now) {
  PHI_RETURN_IF_ERROR(RefuseRouterFields(message.parameters()));
  PHI_ASSIGN_OR_RETURN(const GenerationParameters parameters,
                       ParseGenerationParameters(message.parameters(),
                                                 {.context_tokens = limits.context_tokens,
                                                  .vocabulary_tokens = limits.vocabulary_tokens,
                                                  .eos_token_id = limits.eos_token_id}));
  if (parameters.temperature > 0 && !parameters.seed) {
    return MakeFieldError(
        ErrorReason::kFieldOutOfRange, "parameters.seed", "a router always sets it");
  }
  EngineRequest request;
  request.prompt.assign(message.prompt_token_ids().begin(), message.prompt_token_ids().end());
  const size_t room =
      limits.context_tokens - std::min<size_t>(limits.context_tokens, request.prompt.size());
  if (parameters.max_new_tokens) {
    request.bounded_by_context = message.bounded_by_context();
    request.max_new_tokens = *parameters.max_new_tokens;
  } else {
    request.bounded_by_context = room < kDefaultMaxNewTokens;
    request.max_new_tokens = static_cast<uint32_t>(std::min<size_t>(room, kDefaultMaxNewTokens));
  }
  request.min_new_tokens = parameters.min_new_tokens;
  request.num_samples = parameters.n;
  request.caller = message.caller();
  request.cache_salt = message.cache_salt();
  request.sampling = ToSampling(parameters);
  request.stop_token_ids = parameters.stop_token_ids;
  request.ignore_eos = parameters.ignore_eos;
  request.arrival = now;
  if (parameters.time_limit) {
    request.time_limit_at = After(now, *parameters.time_limit);
  }
  return request;
}

}  // namespace phi::service
