#include "service/api/generation_parameters.h"

#include <algorithm>
#include <cmath>

#include "google/protobuf/descriptor.h"
#include "google/protobuf/unknown_field_set.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"
#include "service/api/error.h"

namespace phi::service {
namespace {

using google::protobuf::FieldDescriptor;
using Message = phi::v1::GenerationParameters;
using Kind = FieldLimitRow::Kind;

constexpr std::string_view kPrefix = "parameters.";

// The number that one value of `field` is judged by. Element `index` of a repeated field.
double ValueOf(const Message& message, const FieldDescriptor& field, int index) {
  const auto& reflection = *Message::GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_UINT32:
      return field.is_repeated() ? reflection.GetRepeatedUInt32(message, &field, index)
                                 : reflection.GetUInt32(message, &field);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return static_cast<double>(reflection.GetFloat(message, &field));
    case FieldDescriptor::CPPTYPE_STRING:
      return static_cast<double>(reflection.GetRepeatedString(message, &field, index).size());
    case FieldDescriptor::CPPTYPE_ENUM:
      return reflection.GetRepeatedEnumValue(message, &field, index);
    default:
      PHI_CHECK(false, "no range for a field of type %s", field.cpp_type_name());
  }
  return 0;
}

bool InRange(const FieldLimitRow& row, double value) {
  if (!std::isfinite(value) || value > row.max) return false;
  return row.min_exclusive ? value > row.min : value >= row.min;
}

absl::Status OutOfRange(std::string_view field) {
  return MakeFieldError(
      ErrorReason::kFieldOutOfRange, field, "outside the range that GetModelInfo publishes");
}

absl::Status CheckStop(const Message& message, const FieldLimitRow& row) {
  for (const std::string& stop : message.stop()) {
    if (stop.empty()) {
      return MakeFieldError(ErrorReason::kEmptyStop, row.field, "a stop string must not be empty");
    }
    if (!InRange(row, static_cast<double>(stop.size()))) return OutOfRange(row.field);
  }
  return absl::OkStatus();
}

absl::Status CheckTokenId(const FieldLimitRow& row, uint32_t id, const ModelLimits& limits) {
  if (id < limits.vocabulary_tokens) return absl::OkStatus();
  return MakeFieldError(
      ErrorReason::kTokenIdOutOfRange, row.field, "a token id must be below the vocabulary");
}

absl::Status CheckLogitBias(const Message& message,
                            const FieldLimitRow& row,
                            const ModelLimits& limits) {
  for (const auto& [id, bias] : message.logit_bias()) {
    PHI_RETURN_IF_ERROR(CheckTokenId(row, id, limits));
    if (!InRange(row, static_cast<double>(bias))) return OutOfRange(row.field);
  }
  return absl::OkStatus();
}

absl::Status CheckTimeLimit(const Message& message, const FieldLimitRow& row) {
  const auto& limit = message.time_limit();
  const bool same_sign =
      limit.nanos() == 0 || limit.seconds() == 0 || (limit.seconds() > 0) == (limit.nanos() > 0);
  if (std::abs(int64_t{limit.nanos()}) > 999'999'999 || !same_sign ||
      !InRange(row, static_cast<double>(limit.seconds()) + 1e-9 * limit.nanos())) {
    return OutOfRange(row.field);
  }
  return absl::OkStatus();
}

absl::Status CheckEnums(const Message& message,
                        const FieldDescriptor& field,
                        const FieldLimitRow& row) {
  for (int i = 0; i < Message::GetReflection()->FieldSize(message, &field); ++i) {
    if (!InRange(row, ValueOf(message, field, i))) {
      return MakeFieldError(ErrorReason::kUnsupportedField, row.field, "an unknown value");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckRepeated(const Message& message,
                           const FieldDescriptor& field,
                           const FieldLimitRow& row,
                           const ModelLimits& limits) {
  if (static_cast<uint32_t>(Message::GetReflection()->FieldSize(message, &field)) > row.max_items) {
    return field.is_map()
               ? OutOfRange(row.field)
               : MakeFieldError(ErrorReason::kTooManyStops, row.field, "too many of them");
  }
  if (field.is_map()) return CheckLogitBias(message, row, limits);
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_STRING) return CheckStop(message, row);
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_ENUM) return CheckEnums(message, field, row);
  for (const uint32_t id : message.stop_token_ids()) {
    PHI_RETURN_IF_ERROR(CheckTokenId(row, id, limits));
  }
  return absl::OkStatus();
}

absl::Status CheckField(const Message& message,
                        const FieldLimitRow& row,
                        const ModelLimits& limits) {
  const std::string name(row.field.substr(kPrefix.size()));
  const FieldDescriptor* field = Message::descriptor()->FindFieldByName(name);
  PHI_CHECK(field != nullptr, "no field %s", name.c_str());
  if (field->is_repeated()) return CheckRepeated(message, *field, row, limits);
  if (!Message::GetReflection()->HasField(message, field)) return absl::OkStatus();
  if (row.kind == Kind::kSeconds) return CheckTimeLimit(message, row);
  return InRange(row, ValueOf(message, *field, 0)) ? absl::OkStatus() : OutOfRange(row.field);
}

absl::Status CheckUnknownFields(const Message& message) {
  const auto& reflection = *Message::GetReflection();
  if (!reflection.GetUnknownFields(message).empty()) {
    return MakeFieldError(ErrorReason::kUnsupportedField,
                          "parameters",
                          "holds a field that this version does not know");
  }
  if (message.has_time_limit() &&
      !message.time_limit().GetReflection()->GetUnknownFields(message.time_limit()).empty()) {
    return MakeFieldError(ErrorReason::kUnsupportedField,
                          "parameters.time_limit",
                          "holds a field that this version does not know");
  }
  return absl::OkStatus();
}

absl::Status CheckMinNewTokens(const Message& message, const ModelLimits& limits) {
  constexpr std::string_view kField = "parameters.min_new_tokens";
  if (message.has_max_new_tokens() && message.min_new_tokens() > message.max_new_tokens()) {
    return MakeFieldError(
        ErrorReason::kFieldOutOfRange, kField, "must not be above max_new_tokens");
  }
  if (message.min_new_tokens() > 0 && limits.vocabulary_tokens == 1 && limits.eos_token_id == 0U) {
    return MakeFieldError(
        ErrorReason::kAllTokensBanned, kField, "the only token may not be drawn before it");
  }
  return absl::OkStatus();
}

std::vector<TokenBias> SortedBias(const Message& message) {
  std::vector<TokenBias> result;
  for (const auto& [id, bias] : message.logit_bias())
    result.push_back({.token_id = id, .bias = bias});
  std::sort(result.begin(), result.end(), [](const TokenBias& a, const TokenBias& b) {
    return a.token_id < b.token_id;
  });
  return result;
}

GenerationParameters WithDefaults(const Message& message) {
  GenerationParameters result;
  if (message.has_max_new_tokens()) result.max_new_tokens = message.max_new_tokens();
  result.min_new_tokens = message.min_new_tokens();
  result.temperature = message.temperature();
  result.top_k = message.top_k();
  if (message.has_top_p()) result.top_p = message.top_p();
  result.min_p = message.min_p();
  if (message.has_repetition_penalty()) result.repetition_penalty = message.repetition_penalty();
  result.frequency_penalty = message.frequency_penalty();
  result.presence_penalty = message.presence_penalty();
  result.logit_bias = SortedBias(message);
  if (message.has_seed()) result.seed = message.seed();
  if (message.has_n()) result.n = message.n();
  result.stop.assign(message.stop().begin(), message.stop().end());
  result.stop_token_ids.assign(message.stop_token_ids().begin(), message.stop_token_ids().end());
  for (const int condition : message.stop_conditions()) {
    result.stop_conditions.push_back(static_cast<phi::v1::StopCondition>(condition));
  }
  result.include_stop = message.include_stop();
  result.ignore_eos = message.ignore_eos();
  if (message.has_logprobs()) result.logprobs = message.logprobs();
  if (message.has_truncate_prompt()) result.truncate_prompt = message.truncate_prompt();
  if (message.has_time_limit()) {
    result.time_limit = absl::Seconds(message.time_limit().seconds()) +
                        absl::Nanoseconds(message.time_limit().nanos());
  }
  return result;
}

}  // namespace

std::vector<FieldLimitRow> FieldLimits(const ModelLimits& limits) {
  const double context = limits.context_tokens;
  const double vocabulary = limits.vocabulary_tokens;
  return {
      {.field = "parameters.max_new_tokens", .min = 1, .max = context},
      {.field = "parameters.min_new_tokens", .min = 0, .max = context},
      {.field = "parameters.temperature", .min = 0, .max = 2},
      {.field = "parameters.top_k", .min = 0, .max = vocabulary},
      {.field = "parameters.top_p", .min = 0, .max = 1, .min_exclusive = true},
      {.field = "parameters.min_p", .min = 0, .max = 1},
      {.field = "parameters.repetition_penalty", .min = 0, .max = 2, .min_exclusive = true},
      {.field = "parameters.frequency_penalty", .min = -2, .max = 2},
      {.field = "parameters.presence_penalty", .min = -2, .max = 2},
      {.field = "parameters.logit_bias", .min = -100, .max = 100, .max_items = kMaxLogitBias},
      {.field = "parameters.n", .min = 1, .max = kMaxSamples},
      {.field = "parameters.stop",
       .min = 1,
       .max = kMaxStopBytes,
       .max_items = 16,
       .kind = Kind::kTextBytes},
      {.field = "parameters.stop_token_ids", .min = 0, .max = vocabulary - 1, .max_items = 64},
      {.field = "parameters.stop_conditions",
       .min = phi::v1::STOP_CONDITION_LINE_END,
       .max = phi::v1::STOP_CONDITION_TOP_LEVEL,
       .max_items = 4},
      {.field = "parameters.logprobs", .min = 0, .max = 20},
      {.field = "parameters.truncate_prompt", .min = 1, .max = context},
      {.field = "parameters.time_limit",
       .min = 0,
       .max = limits.max_time_limit_seconds,
       .min_exclusive = true,
       .kind = Kind::kSeconds},
  };
}

phi::v1::GenerationParameters DefaultParameters() {
  const GenerationParameters from;
  Message defaults;
  defaults.set_max_new_tokens(kDefaultMaxNewTokens);
  defaults.set_min_new_tokens(from.min_new_tokens);
  defaults.set_temperature(from.temperature);
  defaults.set_top_k(from.top_k);
  defaults.set_top_p(from.top_p);
  defaults.set_min_p(from.min_p);
  defaults.set_repetition_penalty(from.repetition_penalty);
  defaults.set_frequency_penalty(from.frequency_penalty);
  defaults.set_presence_penalty(from.presence_penalty);
  defaults.set_n(from.n);
  defaults.set_include_stop(from.include_stop);
  defaults.set_ignore_eos(from.ignore_eos);
  return defaults;
}

absl::StatusOr<GenerationParameters> ParseGenerationParameters(
    const phi::v1::GenerationParameters& message, const ModelLimits& limits) {
  PHI_RETURN_IF_ERROR(CheckUnknownFields(message));
  for (const FieldLimitRow& row : FieldLimits(limits)) {
    PHI_RETURN_IF_ERROR(CheckField(message, row, limits));
  }
  PHI_RETURN_IF_ERROR(CheckMinNewTokens(message, limits));
  return WithDefaults(message);
}

}  // namespace phi::service
