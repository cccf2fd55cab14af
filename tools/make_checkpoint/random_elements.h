#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "kernels/dtype.h"
#include "shard/checkpoint/model_config.h"

namespace phi::tools {

// How the elements of one tensor are spread: mean + deviation * a number that is nearly normal.
struct Distribution {
  float mean = 0;
  float deviation = 0;
};

// Spreads that keep every part of the model at work: attention that is neither flat nor one-hot,
// biases and norms that a test would miss, logits with a deviation of about 2. `name` is one of
// shard::PhiTensors.
Distribution DistributionOf(std::string_view name, const shard::ModelConfig& config);

// Elements first .. of a tensor, as safetensors store them. `bytes` holds whole elements. Element i
// depends on (seed, name, i) alone and is made by integer arithmetic and single IEEE operations:
// the same bytes on every machine.
struct RandomTensor {
  uint64_t key = 0;
  Distribution distribution;
  kernels::DType dtype = kernels::DType::kFloat32;

  void Fill(uint64_t first, std::span<std::byte> bytes) const;
};
RandomTensor MakeRandomTensor(uint64_t seed,
                              std::string_view name,
                              const shard::ModelConfig& config);

}  // namespace phi::tools
