// capacity: what a model takes of GPUs and what they would give, before any is bought.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/base/status_macros.h"
#include "kernels/cuda/layout.h"
#include "service/api/exit_code.h"
#include "service/worker/group/capacity_plan.h"
#include "shard/checkpoint/model_config.h"
#include "shard/partition.h"
#include "tools/capacity/accelerator.h"
#include "tools/capacity/throughput.h"
#include "tools/make_checkpoint/model_shape.h"
#include "tools/run_main.h"

namespace phi::tools {
namespace {

constexpr const char* kDescription =
    "Memory, KV tokens and speed of a Phi model by number of GPUs. Memory is planned by the "
    "worker's "
    "own\narithmetic; speed is modelled from data sheets (tools/capacity/throughput.h), not "
    "measured.";

// A CUDA context, what its libraries load, and the backend's own scratch.
constexpr double kReservedBytes = 0.8e9;

struct Flags {
  std::string model;  // a directory; empty: `preset`
  std::string preset = "phi-1";
  std::string dtype = "bfloat16";
  std::string device = "h100";
  double memory_gb = 0;  // 0: the device's
  std::vector<int> tensor_parallel = {1, 2, 4, 8};
  uint32_t max_sequences = 64;
  uint32_t max_step_tokens = 2048;
  int prompt_tokens = 512;
  int answer_tokens = 128;
};

absl::StatusOr<shard::ModelConfig> ReadConfig(const Flags& flags) {
  if (!flags.model.empty()) return shard::ReadModelConfig(flags.model);
  for (const Preset& preset : Presets()) {
    if (preset.name == flags.preset)
      return shard::ParseModelConfig(
          ConfigJson(preset.shape, ConfigStyle::kTopLevel, std::nullopt));
  }
  return absl::InvalidArgumentError("--preset " + flags.preset + " is not known");
}

struct Row {
  service::CapacityPlan plan;
  uint64_t kv_tokens = 0;
  double step_seconds = 0;        // batch 1
  double batch_seconds = 0;       // `batch` sequences
  int batch = 0;                  // as many as fit
  double prefill_per_second = 0;  // tokens
  // Requests of prompt_tokens and answer_tokens: each takes its prompt's time and its share of
  // answer_tokens steps.
  double requests_per_second = 0;
};

absl::StatusOr<Row> ComputeRow(const Flags& flags,
                               const shard::ModelConfig& config,
                               const Accelerator& device,
                               int world_size) {
  PHI_RETURN_IF_ERROR(shard::PartitionModel(config, 0, world_size).status());
  const kernels::CudaMemoryLayout layout(*kernels::ParseDType(flags.dtype));
  const auto free_bytes = static_cast<uint64_t>(device.memory_bytes - kReservedBytes);
  Row row;
  PHI_ASSIGN_OR_RETURN(row.plan,
                       service::PlanCapacity({.max_sequences = flags.max_sequences,
                                              .max_step_tokens = flags.max_step_tokens,
                                              .world_size = world_size,
                                              .free_bytes = std::vector<uint64_t>(
                                                  static_cast<size_t>(world_size), free_bytes)},
                                             config,
                                             layout));
  const shard::MemoryPlan& widest = row.plan.ranks.front();
  const double element = static_cast<double>(kernels::DTypeBytes(layout.dtype()));
  row.kv_tokens = uint64_t{row.plan.limits.num_kv_blocks} * kernels::kKvBlockTokens;
  RankLoad load{.world_size = world_size};
  load.matrix_bytes = static_cast<double>(widest.weights) -
                      element * config.vocab_size * static_cast<double>(config.hidden_size);
  load.matrix_elements = load.matrix_bytes / element;
  load.kv_bytes_per_token =
      static_cast<double>(widest.kv_cache) / static_cast<double>(row.kv_tokens);

  const int context = flags.prompt_tokens + flags.answer_tokens / 2;
  const uint64_t fitting =
      row.kv_tokens / static_cast<uint64_t>(flags.prompt_tokens + flags.answer_tokens);
  row.batch = static_cast<int>(std::clamp<uint64_t>(fitting, 1, flags.max_sequences));
  row.step_seconds = DecodeStepSeconds(config, load, device, 1, context);
  row.batch_seconds = DecodeStepSeconds(config, load, device, row.batch, context);
  const int chunk = std::min<int>(flags.prompt_tokens, static_cast<int>(flags.max_step_tokens));
  row.prefill_per_second = chunk / PrefillStepSeconds(config, load, device, chunk);
  row.requests_per_second = 1 / (flags.prompt_tokens / row.prefill_per_second +
                                 flags.answer_tokens * row.batch_seconds / row.batch);
  return row;
}

void PrintHeader(const Flags& flags, const shard::ModelConfig& config, const Accelerator& device) {
  std::printf(
      "%s (%d layers, hidden %d, %d key-value heads, context %d) in %s on %s: %.0f GB, %.2f TB/s\n",
      (flags.model.empty() ? flags.preset : flags.model).c_str(),
      config.num_layers,
      config.hidden_size,
      config.num_key_value_heads,
      config.max_positions,
      flags.dtype.c_str(),
      std::string(device.name).c_str(),
      device.memory_bytes / 1e9,
      device.bytes_per_second / 1e12);
  std::printf(
      "Memory is the worker's own plan for --max_sequences=%u --max_step_tokens=%u. Speeds are "
      "MODELLED, "
      "not measured,\nfor prompts of %d and answers of %d tokens, no cached prefix.\n\n",
      flags.max_sequences,
      flags.max_step_tokens,
      flags.prompt_tokens,
      flags.answer_tokens);
  std::printf(
      "| GPUs | weights a GPU, GB | KV cache a GPU, GB | KV tokens | whole contexts | one stream, "
      "ms a "
      "token | batch | tokens/s | prefill tokens/s | requests/s |\n"
      "|---|---|---|---|---|---|---|---|---|---|\n");
}

void PrintRow(const shard::ModelConfig& config, int world_size, const Row& row) {
  const shard::MemoryPlan& widest = row.plan.ranks.front();
  std::printf("| %d | %.2f | %.2f | %s | %s | %.2f | %d | %.0f | %.0f | %.1f |\n",
              world_size,
              static_cast<double>(widest.weights) / 1e9,
              static_cast<double>(widest.kv_cache) / 1e9,
              std::to_string(row.kv_tokens).c_str(),
              std::to_string(row.kv_tokens / static_cast<uint64_t>(config.max_positions)).c_str(),
              row.step_seconds * 1e3,
              row.batch,
              row.batch / row.batch_seconds,
              row.prefill_per_second,
              row.requests_per_second);
}

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "capacity: %s\n", std::string(status.message()).c_str());
  return static_cast<int>(absl::IsResourceExhausted(status) ? service::ExitCode::kOutOfMemory
                                                            : service::ExitCode::kModelOrData);
}

int Run(const Flags& flags) {
  const absl::StatusOr<shard::ModelConfig> config = ReadConfig(flags);
  if (!config.ok()) return Fail(config.status());
  Accelerator device = *FindAccelerator(flags.device);
  if (flags.memory_gb > 0) device.memory_bytes = flags.memory_gb * 1e9;
  PrintHeader(flags, *config, device);
  for (const int world_size : flags.tensor_parallel) {
    const absl::StatusOr<Row> row = ComputeRow(flags, *config, device, world_size);
    if (!row.ok()) return Fail(row.status());
    PrintRow(*config, world_size, *row);
  }
  return 0;
}

std::vector<std::string> DeviceNames() {
  std::vector<std::string> names;
  for (const Accelerator& device : Accelerators()) names.emplace_back(device.name);
  return names;
}

void AddFlags(CLI::App& app, Flags& flags) {
  app.option_defaults()->always_capture_default();
  const auto positive = CLI::Range(1, 1'000'000);
  app.add_option(
      "--model", flags.model, "Model directory (its config.json is read); empty: --preset");
  app.add_option("--preset", flags.preset, "Shape of a known model, as make_checkpoint has them");
  app.add_option("--dtype", flags.dtype, "Type of weights and KV cache")
      ->check(CLI::IsMember({"float32", "bfloat16", "float16"}));
  app.add_option("--device", flags.device, "GPU")->check(CLI::IsMember(DeviceNames()));
  app.add_option("--memory_gb", flags.memory_gb, "Memory of one GPU in GB; 0: the data sheet's")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--tensor_parallel", flags.tensor_parallel, "GPUs of one replica, with commas")
      ->delimiter(',')
      ->check(positive);
  app.add_option("--max_sequences", flags.max_sequences, "The worker's flag")->check(positive);
  app.add_option("--max_step_tokens", flags.max_step_tokens, "The worker's flag")->check(positive);
  app.add_option("--prompt_tokens", flags.prompt_tokens, "Of an average request")->check(positive);
  app.add_option("--answer_tokens", flags.answer_tokens, "Of an average request")->check(positive);
}

int Main(int argc, char** argv) {
  Flags flags;
  CLI::App app(kDescription, "capacity");
  try {
    AddFlags(app, flags);
    app.parse(argc, argv);
  } catch (const CLI::Error& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(service::ExitCode::kUsage);
  }
  return Run(flags);
}

}  // namespace
}  // namespace phi::tools

int main(int argc, char** argv) {
  return phi::tools::RunMain("capacity", phi::tools::Main, argc, argv);
}
