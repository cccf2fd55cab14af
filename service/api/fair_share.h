#pragma once

#include <cstdint>

namespace phi::service {

// How much of something bounded is taken, in places, requests or tokens.
struct Taken {
  uint64_t own = 0;  // by the caller in question
  uint64_t all = 0;  // by all callers, that one included
  uint64_t places = 0;
};

// Whether a caller may take `wanted` more: afterwards it may have at most kShare times what is then
// left, so that one who floods a queue leaves a part of it to others, and each of them leaves a
// part of that. Who has nothing yet may take whatever is there. Source: Choudhury and Hahne,
// "Dynamic queue length thresholds for shared-memory packet switches" (IEEE/ACM Transactions on
// Networking, 1998).
inline bool HasShareLeft(const Taken& taken, uint64_t wanted = 1) {
  constexpr uint64_t kShare = 8;
  if (taken.own == 0) return true;
  const uint64_t after = taken.all + wanted;
  return after <= taken.places && taken.own + wanted <= kShare * (taken.places - after);
}

}  // namespace phi::service
