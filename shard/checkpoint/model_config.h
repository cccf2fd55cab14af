#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/dtype.h"

namespace phi::shard {

// The numbers of a Phi model: the only home of shapes. Names are config.json's own, with `hidden`/`attention` dropped
// from the counts (STYLE: num_layers, num_heads).
// Source: Hugging Face configuration_phi.py, PhiConfig.
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
  kernels::DType dtype = kernels::DType::kFloat32;  // `dtype` or `torch_dtype`; float32 where absent
};

// Reads and checks DIR/config.json; both spellings of the rotary fields (`partial_rotary_factor` and `rope_theta` at the
// top, or inside `rope_parameters`; `rope_scaling` only where it is null or its type is "default").
// INVALID_ARGUMENT naming the field for a config that cannot be served identically: another architecture or activation,
// `qk_layernorm`, rope scaling, numbers out of range, an odd rotary_dim, heads that key-value heads do not divide.
absl::StatusOr<ModelConfig> ReadModelConfig(const std::string& model_dir);

}  // namespace phi::shard
