#pragma once

#include <cstdint>

namespace phi::service {

// What admission and choice know of one replica: the load it pushed last, at most half a second
// old, and what this router has sent it.
struct ReplicaLoad {
  bool ready = false;               // connected, of the same model, not draining
  uint64_t outstanding_tokens = 0;  // RequestCost::total of this router's calls there
  uint32_t queued_requests = 0;
  uint32_t max_queued_requests = 0;
  uint32_t queued_tokens = 0;
  uint32_t max_queued_tokens = 0;
  uint32_t kv_tokens = 0;  // the whole KV cache
  // This router's calls there, and how many the replica takes from all, running and waiting.
  uint32_t outstanding_requests = 0;
  uint32_t max_requests = 0;
};

struct RequestCost {
  uint32_t prompt_tokens = 0;
  uint32_t max_new_tokens = 0;  // of each sample
  uint32_t num_samples = 1;     // share the prompt

  uint64_t total() const { return prompt_tokens + uint64_t{num_samples} * max_new_tokens; }
  // What a KV cache has to hold of it at least: the last token is never an input, and samples that
  // do not fit side by side take turns.
  uint64_t kv_tokens() const { return uint64_t{prompt_tokens} + max_new_tokens - 1; }
};

}  // namespace phi::service
