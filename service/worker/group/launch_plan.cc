#include "service/worker/group/launch_plan.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "kernels/cpu/isa.h"
#include "kernels/cuda/layout.h"
#include "service/api/model_fingerprint.h"
#include "service/telemetry/logging.h"
#include "service/text/tokenizer.h"
#include "service/worker/device/cuda_program.h"
#include "service/worker/device/device_choice.h"
#include "service/worker/device/device_probe.h"
#include "service/worker/device/rank_device.h"
#include "service/worker/group/host_resources.h"
#include "shard/checkpoint/model_config.h"
#include "shard/partition.h"

namespace phi::service {
namespace {

using kernels::DType;

constexpr std::string_view kAutoIsa = "auto";

LaunchError Error(ExitCode code, const absl::Status& status) {
  return {code, std::string(status.message())};
}

LaunchError ReadModel(const WorkerOptions& options, LaunchPlan* plan, shard::ModelConfig* config) {
  const auto read = shard::ReadModelConfig(options.model);
  if (!read.ok()) return Error(ExitCode::kModelOrData, read.status());
  *config = *read;
  const auto tokenizer = Tokenizer::Load(options.model + "/tokenizer.json");
  if (!tokenizer.ok()) return Error(ExitCode::kModelOrData, tokenizer.status());
  const auto fingerprint = ModelFingerprint(options.model);
  if (!fingerprint.ok()) return Error(ExitCode::kModelOrData, fingerprint.status());
  if (tokenizer->vocab_size() > static_cast<uint32_t>(config->vocab_size)) {
    return {ExitCode::kModelOrData,
            absl::StrFormat("tokenizer.json has %u tokens, config.json a vocab_size of %d",
                            tokenizer->vocab_size(),
                            config->vocab_size)};
  }
  if (!tokenizer->eos_id()) return {ExitCode::kModelOrData, "tokenizer.json has no <|endoftext|>"};
  const auto partition = shard::PartitionModel(*config, 0, options.tensor_parallel);
  if (!partition.ok()) return Error(ExitCode::kUsage, partition.status());
  plan->num_layers = config->num_layers;
  plan->spec.fingerprint = *fingerprint;
  plan->spec.vocabulary_tokens = tokenizer->vocab_size();
  plan->spec.eos_token_id = *tokenizer->eos_id();
  plan->spec.context_tokens = static_cast<uint32_t>(config->max_positions);
  plan->spec.hidden_size = config->hidden_size;
  return {};
}

LaunchError CheckCuda(const WorkerOptions& options, const shard::ModelConfig& config) {
  if (options.isa != kAutoIsa)
    return {ExitCode::kUsage, "--isa is for CPUs; take --device=cpu with it"};
  if (config.head_dim > kernels::cuda::kMaxHeadDim) {
    return {ExitCode::kUsage,
            absl::StrFormat("heads of %d are too wide for CUDA, which takes %d; take --device=cpu",
                            config.head_dim,
                            kernels::cuda::kMaxHeadDim)};
  }
  return {};
}

LaunchError TakeDevice(const WorkerOptions& options,
                       const shard::ModelConfig& config,
                       LaunchPlan* plan,
                       DeviceChoice* choice) {
  auto chosen = ChooseDevice(options.device, options.tensor_parallel, AskForCudaDevices);
  if (!chosen.ok()) return Error(ExitCode::kUsage, chosen.status());
  *choice = *std::move(chosen);
  if (!choice->note.empty()) plan->notes.push_back(choice->note);
  plan->spec.device = choice->device;
  if (choice->is_cuda()) {
    const kernels::CudaDevice& first = choice->devices.front();
    plan->spec.isa = first.instruction_set;
    plan->spec.program = CudaProgram();
    plan->notes.push_back(
        absl::StrFormat("GPU of rank 0: %s, %d MiB free", first.name, first.free_bytes >> 20));
    return CheckCuda(options, config);
  }
  const auto isa = kernels::ParseIsa(options.isa);
  if (!isa.ok()) return Error(ExitCode::kUsage, isa.status());
  plan->spec.isa = IsaName(*isa);
  return {};
}

LaunchError ChooseDType(const WorkerOptions& options,
                        const shard::ModelConfig& config,
                        LaunchPlan* plan,
                        DType* dtype) {
  const std::optional<DType> asked = kernels::ParseDType(options.dtype);
  *dtype = asked.value_or(config.dtype);
  if (*dtype == DType::kFloat16 && plan->spec.device == kCpuDevice) {
    if (asked.has_value())
      return {ExitCode::kUsage, "--dtype=float16 is for CUDA; CPUs compute bfloat16 or float32"};
    plan->notes.push_back("float16 weights are computed as bfloat16 on CPUs");
    *dtype = DType::kBFloat16;
  }
  plan->spec.dtype = DTypeName(*dtype);
  return {};
}

void CopyFlags(const WorkerOptions& options, RankSpec* spec) {
  spec->world_size = options.tensor_parallel;
  spec->model_dir = options.model;
  spec->max_sequences = options.max_sequences;
  spec->max_step_tokens = options.max_step_tokens;
  spec->max_queued_requests = options.max_queued_requests;
  spec->max_queued_tokens = options.max_queued_tokens;
  spec->prefix_cache = options.prefix_cache;
  spec->batch_invariant = options.batch_invariant;
  spec->verify_weights = options.verify_weights;
  spec->tls_cert = options.tls.cert;
  spec->tls_key = options.tls.key;
  spec->tls_client_ca = options.tls.peer_ca;
  spec->stall_limit_ms = absl::ToInt64Milliseconds(options.stall_limit);
  spec->drain_timeout_ms = absl::ToInt64Milliseconds(options.drain_timeout);
  spec->log_format = options.log_format;
  spec->log_level = options.log_level;
}

}  // namespace

LaunchError MakeLaunchPlan(const WorkerOptions& options, LaunchPlan* plan) {
  CopyFlags(options, &plan->spec);
  shard::ModelConfig config;
  if (LaunchError error = ReadModel(options, plan, &config); error.code != ExitCode::kOk)
    return error;

  DeviceChoice choice;
  if (LaunchError error = TakeDevice(options, config, plan, &choice); error.code != ExitCode::kOk)
    return error;
  DType dtype = DType::kFloat32;
  if (LaunchError error = ChooseDType(options, config, plan, &dtype); error.code != ExitCode::kOk)
    return error;
  const HostResources host = ReadHostResources();
  plan->spec.threads =
      options.threads > 0 ? options.threads : std::max(1, host.num_cpus / options.tensor_parallel);

  std::vector<uint64_t> free_bytes;
  for (const kernels::CudaDevice& device : choice.devices) free_bytes.push_back(device.free_bytes);
  if (!choice.is_cuda()) free_bytes.push_back(host.free_memory_bytes);
  const auto layout = MakeMemoryLayout(choice.device, dtype, plan->spec.isa);
  if (!layout.ok()) return Error(ExitCode::kUsage, layout.status());
  auto capacity = PlanCapacity({.max_sequences = options.max_sequences,
                                .max_step_tokens = options.max_step_tokens,
                                .world_size = options.tensor_parallel,
                                .kv_cache_bytes = options.kv_cache_bytes,
                                .free_bytes = std::move(free_bytes),
                                .scratch_bytes = CollectiveBytes(plan->spec)},
                               config,
                               **layout);
  if (absl::IsInvalidArgument(capacity.status())) return Error(ExitCode::kUsage, capacity.status());
  if (!capacity.ok()) return Error(ExitCode::kOutOfMemory, capacity.status());
  plan->capacity = *std::move(capacity);
  plan->spec.num_kv_blocks = plan->capacity.limits.num_kv_blocks;
  return {};
}

void LogPlan(const LaunchPlan& plan) {
  const RankSpec& spec = plan.spec;
  LogInfo("plan",
          {{"model", spec.model_dir},
           {"ranks", spec.world_size},
           {"threads_per_rank", spec.threads},
           {"device", spec.device},
           {"isa", spec.isa},
           {"dtype", spec.dtype},
           {"kv_tokens", uint64_t{spec.num_kv_blocks} * kernels::kKvBlockTokens},
           {"max_sequences", spec.max_sequences},
           {"memory_bytes", plan.capacity.total_bytes()}});
  for (size_t rank = 0; rank < plan.capacity.ranks.size(); ++rank) {
    const shard::MemoryPlan& memory = plan.capacity.ranks[rank];
    LogInfo("memory of a rank",
            {{"rank", rank},
             {"weights_bytes", memory.weights},
             {"kv_cache_bytes", memory.kv_cache},
             {"activations_bytes", memory.activations},
             {"total_bytes", memory.total()}});
  }
  for (const std::string& note : plan.notes) LogInfo(note);
}

}  // namespace phi::service
