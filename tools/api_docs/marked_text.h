#pragma once

#include <map>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace phi::tools {

// `text` with each part between `<!-- begin: NAME -->` and `<!-- end: NAME -->` replaced by
// parts[NAME]. INVALID_ARGUMENT for a name that is unknown, twice there or missing in the text, and
// for a marker without its partner.
absl::StatusOr<std::string> ReplaceMarked(std::string_view text,
                                          const std::map<std::string, std::string>& parts);

}  // namespace phi::tools
