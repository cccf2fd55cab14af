#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

// The numbers of a Phi model as config.json writes them.
namespace phi::tools {

struct ModelShape {
  int64_t vocab_size = 51200;
  int64_t hidden_size = 2048;
  int64_t intermediate_size = 8192;
  int64_t num_hidden_layers = 24;
  int64_t num_attention_heads = 32;
  std::optional<int64_t> num_key_value_heads = std::nullopt;  // as many as heads
  std::optional<int64_t> head_dim = std::nullopt;             // hidden_size / num_attention_heads
  int64_t max_position_embeddings = 2048;
  double partial_rotary_factor = 0.5;
  double rope_theta = 10000.0;
  double layer_norm_eps = 1e-5;
  bool tie_word_embeddings = false;
  std::string dtype = "float32";  // float32, float16 or bfloat16
};

struct Preset {
  std::string_view name;
  ModelShape shape;
};

// The released models (Hugging Face: microsoft/phi-1, phi-1_5, phi-2) and small ones for tests.
const std::vector<Preset>& Presets();

// Which generation of transformers wrote the config: the place of the rotary fields and the name of
// the dtype.
enum class ConfigStyle { kTopLevel, kRopeParameters };

// The text of a config.json that transformers loads.
std::string ConfigJson(const ModelShape& shape,
                       ConfigStyle style,
                       std::optional<uint32_t> eos_token_id);

}  // namespace phi::tools
