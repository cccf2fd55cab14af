#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "service/access/tls_files.h"
#include "service/api/exit_code.h"

namespace phi::service {

// The flags of phi-worker; names, defaults and meanings are service/api/flag_table's.
struct WorkerOptions {
  std::string listen;
  std::string metrics_listen;
  std::string model;
  int tensor_parallel = 1;
  std::string device;
  std::string dtype;
  std::string isa;
  int threads = 0;
  uint32_t max_sequences = 0;
  uint32_t max_step_tokens = 0;
  uint64_t kv_cache_bytes = 0;
  uint32_t max_queued_requests = 0;
  uint32_t max_queued_tokens = 0;
  bool prefix_cache = true;
  bool batch_invariant = false;
  bool verify_weights = true;
  TlsFiles tls;
  absl::Duration stall_limit;
  int max_restarts = 0;
  absl::Duration drain_timeout;
  std::string log_format;
  std::string log_level;
};

// Nothing when the program shall go on. Errors and --help are said; what no single flag can show is
// checked too.
std::optional<ExitCode> ParseWorkerFlags(int argc, const char* const* argv, WorkerOptions* options);

}  // namespace phi::service
