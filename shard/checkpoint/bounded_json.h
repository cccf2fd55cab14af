#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

// JSON that strangers wrote. Private to the checkpoint's sources.
namespace phi::shard {

// Parses `text`, an object in UTF-8. INVALID_ARGUMENT with the byte's position for anything else,
// for more than max_depth nested values, and for a key that comes twice in one object.
absl::StatusOr<nlohmann::json> ParseBoundedJson(std::string_view text, int max_depth);

}  // namespace phi::shard
