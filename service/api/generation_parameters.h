#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "phi/v1/generation.pb.h"

// The parameters of one request: their ranges and defaults in one table, and their check. Pure.
namespace phi::service {

// The numbers that ranges depend on.
struct ModelLimits {
  uint32_t context_tokens = 0;     // max_positions
  uint32_t vocabulary_tokens = 0;  // real ids are below it
  std::optional<uint32_t> eos_token_id = std::nullopt;
  double max_time_limit_seconds =
      315'576'000'000;  // the router's --max_time_limit; else what a Duration holds
};

// One row of the parameter table of docs/api.md. `min` and `max` may depend on the model and are
// filled in by FieldLimits().
struct FieldLimitRow {
  std::string_view field;  // "parameters.top_p"
  double min = 0;
  double max = 0;
  uint32_t max_items = 0;  // for repeated fields and maps; 0 = a scalar
  bool min_exclusive = false;
  // What the field's values are, hence what `min` and `max` bound: the number itself (for a map:
  // each value), a text's bytes, a time in seconds.
  enum class Kind : uint8_t { kNumber, kTextBytes, kSeconds } kind = Kind::kNumber;
};

// The table, for validation, GetModelInfo, docs and tests alike.
std::vector<FieldLimitRow> FieldLimits(const ModelLimits& limits);
// The published defaults, as GetModelInfo sends them.
phi::v1::GenerationParameters DefaultParameters();

inline constexpr uint32_t kDefaultMaxNewTokens = 256;
inline constexpr size_t kMaxRequestIdBytes = 128;
inline constexpr size_t kMaxMessageBytes = size_t{256} << 10;
inline constexpr uint32_t kMaxStopBytes = 256;
inline constexpr uint32_t kMaxSamples = 16;
inline constexpr uint32_t kMaxLogitBias = 300;
// n * max_new_tokens * (logprobs + 1) of a unary call.
inline constexpr uint64_t kMaxUnaryTokens = 32768;

struct TokenBias {
  uint32_t token_id = 0;
  float bias = 0;

  friend bool operator==(const TokenBias&, const TokenBias&) = default;
};

// A checked request's parameters with every default filled in.
struct GenerationParameters {
  std::optional<uint32_t>
      max_new_tokens;  // nothing: kDefaultMaxNewTokens or what the context leaves
  uint32_t min_new_tokens = 0;
  float temperature = 0;
  uint32_t top_k = 0;
  float top_p = 1;
  float min_p = 0;
  float repetition_penalty = 1;
  float frequency_penalty = 0;
  float presence_penalty = 0;
  std::vector<TokenBias> logit_bias;  // by token id, each once
  std::optional<uint64_t> seed;
  uint32_t n = 1;
  std::vector<std::string> stop;
  std::vector<uint32_t> stop_token_ids;
  std::vector<phi::v1::StopCondition> stop_conditions;
  bool include_stop = false;
  bool ignore_eos = false;
  std::optional<uint32_t> logprobs;
  std::optional<uint32_t> truncate_prompt;
  std::optional<absl::Duration> time_limit;
};

// Checks every field against the table, finite floats, enum values, unknown fields; nothing is
// silently ignored. min_new_tokens is compared with an explicit max_new_tokens here, and with the
// default by whoever knows the prompt. ALL_TOKENS_BANNED only where EOS is all of the vocabulary
// and masked: no other parameter takes every token away. Errors are MakeFieldError's, with the
// path of the field. Costs O(size of the message).
absl::StatusOr<GenerationParameters> ParseGenerationParameters(
    const phi::v1::GenerationParameters& message, const ModelLimits& limits);

}  // namespace phi::service
