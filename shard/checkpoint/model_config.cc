#include "shard/checkpoint/model_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/base/quoted.h"
#include "kernels/base/status_macros.h"
#include "shard/checkpoint/bounded_json.h"
#include "shard/checkpoint/file_access.h"

namespace phi::shard {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMaxConfigBytes = 1 << 20;
constexpr int kConfigDepth = 16;

// The whole numbers of a config: PhiConfig's defaults, and the range that is served. The bounds
// keep every size below in int64 and refuse nonsense before memory is asked for; no released Phi
// comes near them.
struct IntegerField {
  const char* name;
  int32_t ModelConfig::*member;
  int32_t default_value;
  int32_t max;
};
constexpr std::array<IntegerField, 6> kIntegerFields = {{
    {"vocab_size", &ModelConfig::vocab_size, 51200, 1 << 20},
    {"hidden_size", &ModelConfig::hidden_size, 2048, 1 << 16},
    {"intermediate_size", &ModelConfig::intermediate_size, 8192, 1 << 18},
    {"num_hidden_layers", &ModelConfig::num_layers, 24, 1 << 10},
    {"num_attention_heads", &ModelConfig::num_heads, 32, 1 << 12},
    {"max_position_embeddings", &ModelConfig::max_positions, 2048, 1 << 20},
}};
constexpr int32_t kMaxHeadDim = 1 << 10;
constexpr int32_t kMaxQueryRows = 1 << 16;  // num_heads * head_dim
constexpr double kDefaultRopeTheta = 10000.0;
constexpr double kDefaultPartialRotaryFactor = 0.5;
constexpr double kDefaultLayerNormEps = 1e-5;
// What is smaller becomes 0 in float32.
constexpr double kLeastPositive = 1e-37;

absl::Status FieldError(std::string_view field, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrFormat("field `%s` %s", field, what));
}

std::string ValueText(const Json& value) {
  return Quoted(value.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace));
}

// Null counts as absent only in the fields where PhiConfig allows None.
const Json* FindNonNull(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

absl::StatusOr<int32_t> CheckInteger(const char* name, const Json& value, int32_t max) {
  if (value.is_number_unsigned() && value.get<uint64_t>() >= 1 &&
      value.get<uint64_t>() <= static_cast<uint64_t>(max)) {
    return value.get<int32_t>();
  }
  return FieldError(
      name, absl::StrFormat("must be a whole number from 1 to %d, not %s", max, ValueText(value)));
}

struct RealRange {
  double above = 0;  // exclusive, unless includes_zero
  double max = 0;
  bool includes_zero = false;
};

absl::StatusOr<double> ReadReal(const Json& object,
                                const char* name,
                                double default_value,
                                RealRange range) {
  const auto found = object.find(name);
  if (found == object.end()) return default_value;
  if (found->is_number()) {
    const double value = found->get<double>();
    if ((value > range.above || (range.includes_zero && value == 0)) && value <= range.max)
      return value;
  }
  return FieldError(name,
                    absl::StrFormat("must be a number %s 0 and at most %g, not %s",
                                    range.includes_zero ? "from" : "above",
                                    range.max,
                                    ValueText(*found)));
}

absl::StatusOr<bool> ReadBool(const Json& object, const char* name, bool default_value) {
  const auto found = object.find(name);
  if (found == object.end()) return default_value;
  if (found->is_boolean()) return found->get<bool>();
  return FieldError(name, "must be true or false, not " + ValueText(*found));
}

// This must be a PhiForCausalLM whose arithmetic is the one of modeling_phi.py, and nothing else.
absl::Status CheckArchitecture(const Json& json) {
  const auto model_type = json.find("model_type");
  if (model_type == json.end()) return FieldError("model_type", "is missing; it must be \"phi\"");
  if (*model_type != "phi")
    return FieldError("model_type", "must be \"phi\", not " + ValueText(*model_type));
  if (const Json* names = FindNonNull(json, "architectures")) {
    if (!names->is_array() || std::ranges::find(*names, Json("PhiForCausalLM")) == names->end()) {
      return FieldError("architectures", "must hold \"PhiForCausalLM\", not " + ValueText(*names));
    }
  }
  if (const auto act = json.find("hidden_act"); act != json.end() && *act != "gelu_new") {
    return FieldError("hidden_act", "must be \"gelu_new\", not " + ValueText(*act));
  }
  PHI_ASSIGN_OR_RETURN(const bool qk_layernorm, ReadBool(json, "qk_layernorm", false));
  if (qk_layernorm) return FieldError("qk_layernorm", "is true, which is not served");
  if (FindNonNull(json, "quantization_config") != nullptr) {
    return FieldError("quantization_config", "is there: quantized checkpoints are not served");
  }
  return absl::OkStatus();
}

absl::Status ReadIntegers(const Json& json, ModelConfig& config) {
  for (const IntegerField& field : kIntegerFields) {
    config.*field.member = field.default_value;
    const auto found = json.find(field.name);
    if (found == json.end()) continue;
    PHI_ASSIGN_OR_RETURN(config.*field.member, CheckInteger(field.name, *found, field.max));
  }
  config.num_key_value_heads = config.num_heads;
  if (const Json* value = FindNonNull(json, "num_key_value_heads")) {
    PHI_ASSIGN_OR_RETURN(config.num_key_value_heads,
                         CheckInteger("num_key_value_heads", *value, config.num_heads));
  }
  if (config.num_heads % config.num_key_value_heads != 0) {
    return FieldError("num_key_value_heads",
                      absl::StrFormat("is %d, which does not divide num_attention_heads, %d",
                                      config.num_key_value_heads,
                                      config.num_heads));
  }
  config.head_dim = config.hidden_size / config.num_heads;
  if (const Json* value = FindNonNull(json, "head_dim")) {
    PHI_ASSIGN_OR_RETURN(config.head_dim, CheckInteger("head_dim", *value, kMaxHeadDim));
  }
  if (config.head_dim < 1 || config.head_dim > kMaxHeadDim ||
      config.num_heads * config.head_dim > kMaxQueryRows) {
    return FieldError("num_attention_heads",
                      absl::StrFormat("is %d, which makes heads of %d: not within 1 to %d, or "
                                      "more than %d in all",
                                      config.num_heads,
                                      config.head_dim,
                                      kMaxHeadDim,
                                      kMaxQueryRows));
  }
  return absl::OkStatus();
}

// The rope's own object, where there is one. `rope_scaling` is the older name and wins, as in
// Hugging Face's convert_rope_params_to_dict. Null and {} are absent.
absl::StatusOr<const Json*> FindRopeParameters(const Json& json) {
  for (const char* name : {"rope_scaling", "rope_parameters"}) {
    const Json* rope = FindNonNull(json, name);
    if (rope == nullptr) continue;
    if (!rope->is_object()) return FieldError(name, "must be an object, not " + ValueText(*rope));
    for (const char* type : {"rope_type", "type"}) {
      const auto found = rope->find(type);
      if (found == rope->end()) continue;
      if (*found != "default")
        return FieldError(
            name, "has a " + std::string(type) + " other than \"default\": " + ValueText(*found));
      break;
    }
    for (const auto& [key, value] : rope->items()) {
      constexpr std::array<std::string_view, 4> kKnown = {
          "rope_type", "type", "rope_theta", "partial_rotary_factor"};
      if (std::ranges::find(kKnown, key) == kKnown.end()) {
        return FieldError(name, "has the key " + Quoted(key) + ", which is not served");
      }
    }
    if (!rope->empty()) return rope;
  }
  return nullptr;
}

absl::Status ReadRotary(const Json& json, ModelConfig& config) {
  constexpr RealRange kTheta = {.above = kLeastPositive, .max = 1e12};
  constexpr RealRange kFactor = {.above = 0, .max = 1, .includes_zero = true};
  PHI_ASSIGN_OR_RETURN(double theta, ReadReal(json, "rope_theta", kDefaultRopeTheta, kTheta));
  PHI_ASSIGN_OR_RETURN(
      double factor, ReadReal(json, "partial_rotary_factor", kDefaultPartialRotaryFactor, kFactor));
  PHI_ASSIGN_OR_RETURN(const Json* rope, FindRopeParameters(json));
  if (rope != nullptr) {
    PHI_ASSIGN_OR_RETURN(theta, ReadReal(*rope, "rope_theta", theta, kTheta));
    PHI_ASSIGN_OR_RETURN(factor, ReadReal(*rope, "partial_rotary_factor", factor, kFactor));
  }
  config.rope_theta = static_cast<float>(theta);
  config.rotary_dim = static_cast<int32_t>(config.head_dim * factor);
  if (config.rotary_dim % 2 != 0) {
    return FieldError("partial_rotary_factor",
                      absl::StrFormat("is %g, which rotates %d of the %d dimensions of a head: "
                                      "it must be an even number",
                                      factor,
                                      config.rotary_dim,
                                      config.head_dim));
  }
  return absl::OkStatus();
}

absl::Status ReadDType(const Json& json, ModelConfig& config) {
  for (const char* name : {"dtype", "torch_dtype"}) {
    const Json* value = FindNonNull(json, name);
    if (value == nullptr) continue;
    for (const auto dtype :
         {kernels::DType::kFloat32, kernels::DType::kFloat16, kernels::DType::kBFloat16}) {
      if (*value == kernels::DTypeName(dtype)) {
        config.dtype = dtype;
        return absl::OkStatus();
      }
    }
    return FieldError(name,
                      "must be \"float32\", \"float16\" or \"bfloat16\", not " + ValueText(*value));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view text) {
  PHI_ASSIGN_OR_RETURN(const Json json, ParseBoundedJson(text, kConfigDepth));
  PHI_RETURN_IF_ERROR(CheckArchitecture(json));
  ModelConfig config;
  PHI_RETURN_IF_ERROR(ReadIntegers(json, config));
  PHI_RETURN_IF_ERROR(ReadRotary(json, config));
  PHI_ASSIGN_OR_RETURN(
      const double epsilon,
      ReadReal(json, "layer_norm_eps", kDefaultLayerNormEps, {.above = kLeastPositive, .max = 1}));
  config.layer_norm_eps = static_cast<float>(epsilon);
  PHI_ASSIGN_OR_RETURN(config.tie_word_embeddings, ReadBool(json, "tie_word_embeddings", false));
  PHI_RETURN_IF_ERROR(ReadDType(json, config));
  return config;
}

absl::StatusOr<ModelConfig> ReadModelConfig(const std::string& model_dir) {
  const std::string path = (std::filesystem::path(model_dir) / "config.json").string();
  PHI_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path, kMaxConfigBytes));
  absl::StatusOr<ModelConfig> config = ParseModelConfig(text);
  if (!config.ok())
    return absl::Status(config.status().code(),
                        absl::StrCat(path, ": ", config.status().message()));
  return config;
}

}  // namespace phi::shard
