#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "tools/make_checkpoint/model_shape.h"

namespace phi::tools {

struct RandomCheckpoint {
  std::string dir = {};  // made where it is not there
  ModelShape shape = {};
  ConfigStyle style = ConfigStyle::kRopeParameters;
  uint64_t seed = 0;
  int num_files = 1;
  int num_threads = 1;
  // A tokenizer.json to copy. Empty: a byte-level one is written, if the vocabulary has room for
  // it.
  std::string tokenizer_path = {};
  bool overwrite = false;  // replace a checkpoint that is in `dir` already
  // Called by one thread; may be empty.
  std::function<void(uint64_t done_bytes, uint64_t total_bytes)> on_progress = {};
};

// Writes a directory that transformers' PhiForCausalLM and phi-serve load. Weights first,
// config.json last, so that an interrupted run leaves nothing that loads. The bytes depend on
// shape, style, seed and num_files alone. INVALID_ARGUMENT for a shape that phi-serve would refuse;
// ALREADY_EXISTS; what writing reports.
absl::Status WriteRandomCheckpoint(const RandomCheckpoint& checkpoint);

}  // namespace phi::tools
