#include "tools/capacity/throughput.h"

#include <algorithm>

namespace phi::tools {
namespace {

constexpr double kBandwidthShare = 0.85;
constexpr double kFlopsShare = 0.6;
constexpr double kKernelSeconds = 1.3e-6;
constexpr int kFusedRows = 8;  // see docs/gpu.md, "A step"
constexpr int kFusedKernels = 3;
constexpr int kPlainKernels = 8;
constexpr double kCollectiveSeconds = 6.6e-6;
constexpr double kRingStepSeconds = 0.6e-6;

// A ring moves 2 (n - 1) / n of the bytes through each link in 2 (n - 1) steps.
double AllReduceSeconds(const RankLoad& load, const Accelerator& device, double bytes) {
  if (load.world_size == 1) return 0;
  const double hops = 2.0 * (load.world_size - 1);
  return kCollectiveSeconds + hops * kRingStepSeconds +
         hops / load.world_size * bytes / device.link_bytes_per_second;
}

double OverheadSeconds(const shard::ModelConfig& config,
                       const RankLoad& load,
                       const Accelerator& device,
                       int rows) {
  const int kernels = rows <= kFusedRows ? kFusedKernels : kPlainKernels;
  const double row_bytes = static_cast<double>(config.hidden_size) * sizeof(float);
  return (kernels * config.num_layers + 2) * kKernelSeconds +
         config.num_layers * AllReduceSeconds(load, device, rows * row_bytes);
}

// Multiplications and additions of `rows` rows that each attend to `context_tokens` positions.
double StepFlops(const shard::ModelConfig& config,
                 const RankLoad& load,
                 double rows,
                 double context_tokens) {
  const double width = static_cast<double>(config.num_heads) * config.head_dim / load.world_size;
  return 2 * rows * (load.matrix_elements + 2 * width * context_tokens * config.num_layers);
}

double RooflineSeconds(const Accelerator& device, double bytes, double flops) {
  return std::max(bytes / (kBandwidthShare * device.bytes_per_second),
                  flops / (kFlopsShare * device.flops_per_second));
}

}  // namespace

double DecodeStepSeconds(const shard::ModelConfig& config,
                         const RankLoad& load,
                         const Accelerator& device,
                         int batch,
                         int context_tokens) {
  const double bytes =
      load.matrix_bytes + load.kv_bytes_per_token * static_cast<double>(batch) * context_tokens;
  return RooflineSeconds(device, bytes, StepFlops(config, load, batch, context_tokens)) +
         OverheadSeconds(config, load, device, batch);
}

double PrefillStepSeconds(const shard::ModelConfig& config,
                          const RankLoad& load,
                          const Accelerator& device,
                          int rows) {
  const double bytes = load.matrix_bytes + load.kv_bytes_per_token * rows;
  // A row attends to half of the prompt on average.
  return RooflineSeconds(device, bytes, StepFlops(config, load, rows, rows / 2.0)) +
         OverheadSeconds(config, load, device, rows);
}

}  // namespace phi::tools
