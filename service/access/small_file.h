#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace phi::service {

// All of a file of 1 MiB at most. `flag`: which one names it. INVALID_ARGUMENT naming flag, file
// and reason.
absl::StatusOr<std::string> ReadSmallFile(std::string_view flag, const std::string& path);

}  // namespace phi::service
