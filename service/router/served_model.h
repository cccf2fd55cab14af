#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "service/text/tokenizer.h"
#include "shard/checkpoint/model_config.h"

namespace phi::service {

// What the router knows of the model: no weights.
struct ServedModel {
  std::string name;
  std::string fingerprint;
  shard::ModelConfig config;
  Tokenizer tokenizer;
};

// Reads DIR/config.json and DIR/tokenizer.json. `name`: empty for the directory's own. Errors are
// one line that names the file and what to do about it.
absl::StatusOr<ServedModel> LoadServedModel(const std::string& model_dir, const std::string& name);

}  // namespace phi::service
