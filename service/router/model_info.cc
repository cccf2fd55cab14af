#include "service/router/model_info.h"

#include <string>
#include <utility>

namespace phi::service {
namespace {

void FillArchitecture(const shard::ModelConfig& config, phi::v1::Architecture& architecture) {
  architecture.set_num_layers(static_cast<uint32_t>(config.num_layers));
  architecture.set_hidden_size(static_cast<uint32_t>(config.hidden_size));
  architecture.set_intermediate_size(static_cast<uint32_t>(config.intermediate_size));
  architecture.set_num_heads(static_cast<uint32_t>(config.num_heads));
  architecture.set_num_key_value_heads(static_cast<uint32_t>(config.num_key_value_heads));
  architecture.set_head_dim(static_cast<uint32_t>(config.head_dim));
  architecture.set_rotary_dim(static_cast<uint32_t>(config.rotary_dim));
  architecture.set_vocab_size(static_cast<uint32_t>(config.vocab_size));
}

}  // namespace

phi::v1::GetModelInfoResponse ModelInfo(const RouterContext& context) {
  const RequestLimits limits = context.request_limits();
  ReplicaPool::Summary replicas = context.replicas.Describe();
  phi::v1::GetModelInfoResponse info;
  info.set_model_name(context.model.name);
  info.set_fingerprint(context.model.fingerprint);
  info.set_version(PHI_VERSION);
  FillArchitecture(context.model.config, *info.mutable_architecture());
  info.set_dtype(replicas.dtype);
  info.set_context_tokens(limits.model.context_tokens);
  info.set_vocabulary_tokens(limits.model.vocabulary_tokens);
  *info.mutable_defaults() = DefaultParameters();
  const absl::Duration time_limit = context.limits.max_time_limit;
  const int64_t seconds = absl::ToInt64Seconds(time_limit);
  info.mutable_defaults()->mutable_time_limit()->set_seconds(seconds);
  info.mutable_defaults()->mutable_time_limit()->set_nanos(
      static_cast<int32_t>(absl::ToInt64Nanoseconds(time_limit - absl::Seconds(seconds))));
  for (const FieldLimitRow& row : FieldLimits(limits.model)) {
    phi::v1::FieldLimit& limit = *info.add_limits();
    limit.set_field(std::string(row.field));
    limit.set_min(row.min);
    limit.set_max(row.max);
    limit.set_max_items(row.max_items);
    limit.set_min_exclusive(row.min_exclusive);
  }
  for (phi::v1::ReplicaInfo& replica : replicas.replicas) *info.add_replicas() = std::move(replica);
  return info;
}

}  // namespace phi::service
