#include "service/worker/group/launch_plan.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/isa.h"
#include "service/api/model_fingerprint.h"
#include "service/text/tokenizer.h"
#include "service/worker/group/host_resources.h"
#include "shard/checkpoint/model_config.h"
#include "shard/partition.h"

namespace phi::service {
namespace {

using kernels::DType;

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
  return {};
}

DType ChooseDType(const WorkerOptions& options,
                  const shard::ModelConfig& config,
                  std::string* note) {
  if (options.dtype == DTypeName(DType::kFloat32)) return DType::kFloat32;
  if (options.dtype == DTypeName(DType::kBFloat16)) return DType::kBFloat16;
  if (config.dtype != DType::kFloat16) return config.dtype;
  *note = "float16 weights are computed as bfloat16 on CPUs";
  return DType::kBFloat16;
}

void CopyFlags(const WorkerOptions& options, RankSpec* spec) {
  spec->world_size = options.tensor_parallel;
  spec->model_dir = options.model;
  spec->max_sequences = options.max_sequences;
  spec->max_step_tokens = options.max_step_tokens;
  spec->max_queued_requests = options.max_queued_requests;
  spec->max_queued_tokens = options.max_queued_tokens;
  spec->prefix_cache = options.prefix_cache;
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

  const auto isa = kernels::ParseIsa(options.isa);
  if (!isa.ok()) return Error(ExitCode::kUsage, isa.status());
  const DType dtype = ChooseDType(options, config, &plan->dtype_note);
  const HostResources host = ReadHostResources();
  plan->spec.threads =
      options.threads > 0 ? options.threads : std::max(1, host.num_cpus / options.tensor_parallel);
  plan->spec.isa = IsaName(*isa);
  plan->spec.dtype = DTypeName(dtype);

  // Made to be asked what a rank takes; ranks make their own.
  const auto backend = kernels::MakeCpuBackend({.dtype = dtype, .threads = 1, .isa = *isa});
  if (!backend.ok()) return Error(ExitCode::kUsage, backend.status());
  auto capacity = PlanCapacity({.max_sequences = options.max_sequences,
                                .max_step_tokens = options.max_step_tokens,
                                .world_size = options.tensor_parallel,
                                .kv_cache_bytes = options.kv_cache_bytes,
                                .free_memory_bytes = host.free_memory_bytes},
                               config,
                               **backend);
  if (absl::IsInvalidArgument(capacity.status())) return Error(ExitCode::kUsage, capacity.status());
  if (!capacity.ok()) return Error(ExitCode::kOutOfMemory, capacity.status());
  plan->capacity = *std::move(capacity);
  plan->spec.num_kv_blocks = plan->capacity.limits.num_kv_blocks;
  return {};
}

}  // namespace phi::service
