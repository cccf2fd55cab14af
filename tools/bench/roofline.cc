#include "tools/bench/roofline.h"

#include <array>

namespace phi::bench {
namespace {

// LayerNorm with [q k v u], attention, [a, gelu(u)].
constexpr int kLaunchesPerLayer = 3;
// The embedding, the head and the choice of the highest logits.
constexpr int kLaunchesBesideLayers = 3;

constexpr double kReachableShare = 0.85;
constexpr double kLaunchSeconds = 1.3e-6;

double CollectiveSeconds(int world_size) {
  if (world_size <= 1) return 0;
  if (world_size == 2) return 12e-6;
  return world_size <= 4 ? 15e-6 : 20e-6;
}

double LayerWeights(const shard::ModelConfig& config) {
  const double hidden = config.hidden_size;
  const double attention = static_cast<double>(config.num_heads) * config.head_dim;
  const double key_value = static_cast<double>(config.num_key_value_heads) * config.head_dim;
  const double in_columns = attention + 2 * key_value + config.intermediate_size;
  return hidden * in_columns + hidden * (attention + config.intermediate_size);
}

double HeadWeights(const shard::ModelConfig& config) {
  return static_cast<double>(config.vocab_size) * config.hidden_size;
}

}  // namespace

DecodeCost CostOfDecode(const shard::ModelConfig& config,
                        kernels::DType dtype,
                        const DecodeStep& step) {
  const auto element = static_cast<double>(kernels::DTypeBytes(dtype));
  const double layers = config.num_layers;
  const double position = 2.0 * config.num_key_value_heads * config.head_dim;
  DecodeCost cost;
  cost.weight_bytes =
      element * (layers * LayerWeights(config) + HeadWeights(config)) / step.world_size;
  cost.cache_bytes = element * layers * position * step.batch * step.context / step.world_size;
  cost.launches = kLaunchesPerLayer * config.num_layers + kLaunchesBesideLayers;
  cost.collectives = step.world_size == 1 ? 0 : config.num_layers + 1;
  return cost;
}

double PrefillFlops(const shard::ModelConfig& config, int tokens) {
  const double layers = config.num_layers;
  const double width = static_cast<double>(config.num_heads) * config.head_dim;
  const double products = 2 * layers * LayerWeights(config) * tokens + 2 * HeadWeights(config);
  // Scores and weighted values of half of all pairs of positions.
  return products + 2 * layers * width * static_cast<double>(tokens) * tokens;
}

std::span<const DeviceSpec> KnownDevices() {
  static constexpr std::array kDevices = {
      DeviceSpec{.name = "A100-80", .bytes_per_second = 2.04e12, .flops_per_second = 312e12},
      DeviceSpec{.name = "H100 SXM", .bytes_per_second = 3.35e12, .flops_per_second = 989e12},
      DeviceSpec{.name = "H200", .bytes_per_second = 4.8e12, .flops_per_second = 989e12},
  };
  return kDevices;
}

ModelledSeconds ModelDecode(const DecodeCost& cost, int world_size, double bytes_per_second) {
  const double bytes_alone = cost.bytes() / bytes_per_second;
  return {.bytes_alone = bytes_alone,
          .with_launches = bytes_alone / kReachableShare + cost.launches * kLaunchSeconds +
                           cost.collectives * CollectiveSeconds(world_size)};
}

}  // namespace phi::bench
