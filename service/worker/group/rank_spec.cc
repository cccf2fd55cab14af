#include "service/worker/group/rank_spec.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"

namespace phi::service {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(RankSpec,
                                   rank,
                                   world_size,
                                   epoch,
                                   metric_fd,
                                   group_fd,
                                   lifeline_fd,
                                   plan_fds,
                                   rendezvous_dir,
                                   listen,
                                   model_dir,
                                   fingerprint,
                                   vocabulary_tokens,
                                   eos_token_id,
                                   context_tokens,
                                   hidden_size,
                                   program,
                                   device,
                                   dtype,
                                   isa,
                                   threads,
                                   max_sequences,
                                   max_step_tokens,
                                   num_kv_blocks,
                                   max_queued_requests,
                                   max_queued_tokens,
                                   prefix_cache,
                                   batch_invariant,
                                   verify_weights,
                                   tls_cert,
                                   tls_key,
                                   tls_client_ca,
                                   stall_limit_ms,
                                   drain_timeout_ms,
                                   log_format,
                                   log_level)

std::string EncodeRankSpec(const RankSpec& spec) {
  // A path may hold any bytes. JSON cannot say those that are not UTF-8: the rank looks for another
  // path then, and names it where it finds nothing.
  return nlohmann::json(spec).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

absl::StatusOr<RankSpec> DecodeRankSpec(const std::string& text) {
  try {
    return nlohmann::json::parse(text).get<RankSpec>();
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError(absl::StrFormat("rank spec: %s", error.what()));
  }
}

}  // namespace phi::service
