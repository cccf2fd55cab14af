#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "shard/checkpoint/model_config.h"
#include "shard/checkpoint/safetensors.h"

// The names and shapes of a PhiForCausalLM's tensors.
// Source: Hugging Face modeling_phi.py.
namespace phi::shard {

inline constexpr std::string_view kEmbeddingTensor = "model.embed_tokens.weight";
inline constexpr std::string_view kHeadTensor = "lm_head.weight";
inline constexpr std::string_view kHeadBiasTensor = "lm_head.bias";
inline constexpr std::string_view kFinalNorm = "model.final_layernorm";

// "model.layers.3.self_attn.q_proj.weight" of (3, "self_attn.q_proj.weight").
std::string LayerTensorName(int layer, std::string_view tensor);

struct TensorSpec {
  std::string name;
  std::vector<int64_t> shape;
};

// In the order of the model's state_dict. With a tied head lm_head.weight is left out.
std::vector<TensorSpec> PhiTensors(const ModelConfig& config);

// Where embedding and head lie. A model that ties them usually stores one of them; one that stores
// both, uses both (Hugging Face modeling_utils.py, tie_weights).
struct TiedTensors {
  std::string_view embedding = kEmbeddingTensor;
  std::string_view head = kHeadTensor;
};
TiedTensors FindTiedTensors(const Checkpoint& checkpoint, const ModelConfig& config);

// INVALID_ARGUMENT, with names, for tensors that are missing, of another shape or dtype, or not
// this model's. The rotary_emb.inv_freq of old checkpoints are known and ignored.
absl::Status CheckPhiTensors(const Checkpoint& checkpoint, const ModelConfig& config);

}  // namespace phi::shard
