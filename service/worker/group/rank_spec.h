#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace phi::service {

// Everything that one rank process is told, as the one argument of its command line: the supervisor
// has read and checked the flags, the model's config and the machine, so that all ranks agree.
struct RankSpec {
  int rank = 0;
  int world_size = 1;
  uint64_t epoch = 1;

  // Inherited file descriptors.
  int metric_fd = -1;
  int group_fd = -1;
  int lifeline_fd = -1;       // end of file: the supervisor is gone; a byte: drain
  std::vector<int> plan_fds;  // the leader's, one a follower in rank order; a follower's own one

  std::string rendezvous_dir;
  std::string listen;  // the leader's address, its port chosen
  std::string model_dir;
  std::string fingerprint;
  uint32_t vocabulary_tokens = 0;  // real ids
  uint32_t eos_token_id = 0;
  uint32_t context_tokens = 0;
  int64_t hidden_size = 0;

  std::string program = "/proc/self/exe";  // what the rank is a process of
  std::string device;                      // "cpu"; "cuda": rank r has GPU r
  std::string dtype;
  std::string isa;  // of the CPU's kernels, or the GPU's ("sm_90")
  int threads = 1;
  uint32_t max_sequences = 0;
  uint32_t max_step_tokens = 0;
  uint32_t num_kv_blocks = 0;
  uint32_t max_queued_requests = 0;
  uint32_t max_queued_tokens = 0;
  bool prefix_cache = true;
  bool batch_invariant = false;
  bool verify_weights = true;
  std::string tls_cert;
  std::string tls_key;
  std::string tls_client_ca;
  int64_t stall_limit_ms = 0;
  int64_t drain_timeout_ms = 0;
  std::string log_format;
  std::string log_level;
};

// Ranks have so many stall limits to find each other; NCCL has no deadline of its own.
inline constexpr int64_t kConnectStallLimits = 12;

// The first argument of a rank process, before its spec. Not for people: --help does not list it.
inline constexpr std::string_view kRankProcessArgument = "--rank-process";

std::string EncodeRankSpec(const RankSpec& spec);
// INVALID_ARGUMENT for anything that EncodeRankSpec did not write.
absl::StatusOr<RankSpec> DecodeRankSpec(const std::string& text);

}  // namespace phi::service
