#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "absl/strings/string_view.h"

namespace phi::service {

// Shares no memory with `status`: ThreadSanitizer does not see how the distribution's absl counts
// who shares a payload.
inline absl::Status OwnCopy(const absl::Status& status) {
  absl::Status own(status.code(), status.message());
  status.ForEachPayload([&own](absl::string_view type, const absl::Cord& payload) {
    own.SetPayload(type, absl::Cord(std::string(payload)));
  });
  return own;
}

}  // namespace phi::service
