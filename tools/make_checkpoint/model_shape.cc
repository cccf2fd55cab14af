#include "tools/make_checkpoint/model_shape.h"

#include <nlohmann/json.hpp>

namespace phi::tools {

const std::vector<Preset>& Presets() {
  static const auto* presets = new std::vector<Preset>{
      {"phi-1", {.dtype = "bfloat16"}},
      {"phi-1.5", {.dtype = "bfloat16"}},
      {"phi-2",
       {.hidden_size = 2560,
        .intermediate_size = 10240,
        .num_hidden_layers = 32,
        .partial_rotary_factor = 0.4,
        .dtype = "bfloat16"}},
      {"nano",
       {.vocab_size = 2048,
        .hidden_size = 256,
        .intermediate_size = 1024,
        .num_hidden_layers = 4,
        .num_attention_heads = 4,
        .max_position_embeddings = 512}},
      {"tiny",
       {.vocab_size = 320,
        .hidden_size = 64,
        .intermediate_size = 144,
        .num_hidden_layers = 2,
        .num_attention_heads = 4,
        .max_position_embeddings = 256}},
  };
  return *presets;
}

std::string ConfigJson(const ModelShape& shape,
                       ConfigStyle style,
                       std::optional<uint32_t> eos_token_id) {
  nlohmann::ordered_json config;
  config["architectures"] = {"PhiForCausalLM"};
  config["model_type"] = "phi";
  config["vocab_size"] = shape.vocab_size;
  config["hidden_size"] = shape.hidden_size;
  config["intermediate_size"] = shape.intermediate_size;
  config["num_hidden_layers"] = shape.num_hidden_layers;
  config["num_attention_heads"] = shape.num_attention_heads;
  config["num_key_value_heads"] = shape.num_key_value_heads.value_or(shape.num_attention_heads);
  if (shape.head_dim) config["head_dim"] = *shape.head_dim;
  config["hidden_act"] = "gelu_new";
  config["max_position_embeddings"] = shape.max_position_embeddings;
  config["layer_norm_eps"] = shape.layer_norm_eps;
  config["tie_word_embeddings"] = shape.tie_word_embeddings;
  config["qk_layernorm"] = false;
  for (const char* dropout : {"attention_dropout", "embd_pdrop", "resid_pdrop"})
    config[dropout] = 0.0;
  config["initializer_range"] = 0.02;
  if (style == ConfigStyle::kRopeParameters) {
    config["rope_parameters"] = {{"rope_type", "default"},
                                 {"rope_theta", shape.rope_theta},
                                 {"partial_rotary_factor", shape.partial_rotary_factor}};
    config["dtype"] = shape.dtype;
  } else {
    config["rope_theta"] = shape.rope_theta;
    config["rope_scaling"] = nullptr;
    config["partial_rotary_factor"] = shape.partial_rotary_factor;
    config["torch_dtype"] = shape.dtype;
  }
  for (const char* token : {"bos_token_id", "eos_token_id"}) {
    config[token] = nullptr;
    if (eos_token_id) config[token] = *eos_token_id;
  }
  return config.dump(2) + "\n";
}

}  // namespace phi::tools
