#pragma once

#include <span>
#include <string_view>

#include "kernels/dtype.h"
#include "shard/checkpoint/model_config.h"

// What a step on GPUs has to move and to start, and what data sheets make of that: modelled
// figures, never measured ones.
namespace phi::bench {

// One decode step: a new token of each of `batch` sequences behind `context` cached positions.
struct DecodeStep {
  int batch = 1;
  int context = 1024;
  int world_size = 1;
};

// One rank's share of it. Launches and bytes are what tests/cuda_host counts (step_cost_test holds
// the two together); bytes are of weights and cache, each read once.
struct DecodeCost {
  double weight_bytes = 0;
  double cache_bytes = 0;
  int launches = 0;
  int collectives = 0;
  double bytes() const { return weight_bytes + cache_bytes; }
};
DecodeCost CostOfDecode(const shard::ModelConfig& config,
                        kernels::DType dtype,
                        const DecodeStep& step);

// Multiplications and additions of a prompt of `tokens`, the head for the last one alone.
double PrefillFlops(const shard::ModelConfig& config, int tokens);

struct DeviceSpec {
  std::string_view name;
  double bytes_per_second = 0;
  double flops_per_second = 0;  // bfloat16, dense
};
// By NVIDIA's data sheets (A100 80GB SXM; H100 SXM; H200 SXM).
std::span<const DeviceSpec> KnownDevices();

struct ModelledSeconds {
  double bytes_alone = 0;  // bytes over the bandwidth of the data sheet
  // Bytes at 85% of it, 1.3 us a launch (the gap inside a CUDA graph on an H100) and 12, 15 or 20
  // us a collective at 2, 4 or 8 ranks (NCCL over NVLink).
  double with_launches = 0;
};
ModelledSeconds ModelDecode(const DecodeCost& cost, int world_size, double bytes_per_second);

}  // namespace phi::bench
