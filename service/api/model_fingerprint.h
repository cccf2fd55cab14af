#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace phi::service {

// SHA-256 over the bytes of DIR/config.json and DIR/tokenizer.json, in hexadecimal: what router and
// replica must agree on.
absl::StatusOr<std::string> ModelFingerprint(const std::string& model_dir);

}  // namespace phi::service
