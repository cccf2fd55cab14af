#include "kernels/base/top_candidates.h"

#include <algorithm>
#include <bit>
#include <limits>

namespace phi::kernels {
namespace {

bool AllFinite(std::span<const float> logits) {
  constexpr uint32_t kExponent = 0x7f800000;
  bool finite = true;
  for (const float logit : logits)
    finite &= (std::bit_cast<uint32_t>(logit) & kExponent) != kExponent;
  return finite;
}

}  // namespace

void TakeTopCandidates(std::span<const float> logits,
                       int64_t num_real,
                       int64_t first_id,
                       std::span<Candidate> out) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::fill(out.begin(), out.end(), Candidate{.logit = -kInfinity, .token_id = -1});
  if (!AllFinite(logits)) {
    out.front().logit = std::numeric_limits<float>::quiet_NaN();
    return;
  }
  for (int64_t col = 0; col < num_real; ++col) {
    const float logit = logits[static_cast<size_t>(col)];
    if (logit <= out.back().logit) continue;
    // Ids come in ascending order: behind those of the same logit.
    const auto place = std::find_if(
        out.begin(), out.end() - 1, [&](const Candidate& each) { return each.logit < logit; });
    std::move_backward(place, out.end() - 1, out.end());
    *place = {.logit = logit, .token_id = static_cast<int32_t>(first_id + col)};
  }
}

}  // namespace phi::kernels
