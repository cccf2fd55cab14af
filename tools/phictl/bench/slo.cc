#include "tools/phictl/bench/slo.h"

#include <utility>

#include "absl/strings/str_split.h"

namespace phi::phictl {

absl::StatusOr<Slo> Slo::Parse(std::string_view text) {
  Slo slo;
  for (const absl::string_view part :
       absl::StrSplit(absl::string_view(text.data(), text.size()), ',')) {
    const std::pair<absl::string_view, absl::string_view> limit =
        absl::StrSplit(part, absl::MaxSplits('=', 1));
    absl::Duration* target = limit.first == "ttft"    ? &slo.first_token
                             : limit.first == "itl"   ? &slo.inter_token
                             : limit.first == "total" ? &slo.total
                                                      : nullptr;
    if (target == nullptr || *target != absl::InfiniteDuration() ||
        !absl::ParseDuration(limit.second, target) || *target <= absl::ZeroDuration()) {
      return absl::InvalidArgumentError(
          "an SLO is written as ttft=500ms,itl=50ms,total=10s, not all of them needed");
    }
  }
  return slo;
}

}  // namespace phi::phictl
