#pragma once

#include <string>
#include <string_view>

#include "phi/v1/generation.pb.h"

namespace phi::service {

// "STOP_STRING" for FINISH_REASON_STOP_STRING; "" where there is none, or one of a later version,
// which protobuf keeps as a number without a name.
inline std::string FinishReasonName(phi::v1::FinishReason reason) {
  constexpr std::string_view kPrefix = "FINISH_REASON_";
  const std::string& name = phi::v1::FinishReason_Name(reason);
  const bool named = reason != phi::v1::FINISH_REASON_UNSPECIFIED && name.size() > kPrefix.size();
  return named ? name.substr(kPrefix.size()) : "";
}

}  // namespace phi::service
