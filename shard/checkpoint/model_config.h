#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "kernels/dtype.h"

namespace phi::shard {

// The numbers of a Phi model: the only home of shapes. Names are config.json's own, with
// `hidden`/`attention` dropped from the counts. Shapes of tensors
// use num_heads * head_dim, which need not be hidden_size. Source: Hugging Face
// configuration_phi.py, PhiConfig, and modeling_phi.py.
struct ModelConfig {
  int32_t vocab_size = 0;  // rows of the head and the embedding, padding rows included
  int32_t hidden_size = 0;
  int32_t intermediate_size = 0;
  int32_t num_layers = 0;
  int32_t num_heads = 0;
  int32_t num_key_value_heads = 0;
  int32_t head_dim = 0;
  int32_t rotary_dim = 0;  // int(head_dim * partial_rotary_factor), even
  int32_t max_positions = 0;
  float rope_theta = 10000.0F;
  float layer_norm_eps = 1e-5F;
  bool tie_word_embeddings = false;
  kernels::DType dtype =
      kernels::DType::kFloat32;  // `dtype` or `torch_dtype`; float32 where absent

  friend bool operator==(const ModelConfig&, const ModelConfig&) = default;
};

// Checks the text of a config.json. A field that is absent has PhiConfig's default. Both spellings
// of the rotary fields are read: `partial_rotary_factor` and `rope_theta` at the top, or inside
// `rope_parameters` (which wins); `rope_scaling` only where it is null or its type is "default".
// INVALID_ARGUMENT naming the field for a config that cannot be served identically: another
// architecture or activation, `qk_layernorm`, quantization, rope scaling, numbers out of range, an
// odd rotary_dim, heads that key-value heads do not divide.
absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view text);

// ParseModelConfig of DIR/config.json; errors name the file.
absl::StatusOr<ModelConfig> ReadModelConfig(const std::string& model_dir);

}  // namespace phi::shard
