#pragma once

#include <cstdint>
#include <span>

#include "kernels/backend.h"

namespace phi::kernels {

// Backend::TopCandidates of one row in host memory, for as many candidates as `out` has room for.
// Pure; threads: any.
void TakeTopCandidates(std::span<const float> logits,
                       int64_t num_real,
                       int64_t first_id,
                       std::span<Candidate> out);

}  // namespace phi::kernels
