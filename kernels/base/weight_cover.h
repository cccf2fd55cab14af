#pragma once

#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "kernels/backend.h"

namespace phi::kernels {

// INVALID_ARGUMENT unless the slices lie in a matrix [rows, cols] and cover each of its elements
// exactly once.
absl::Status CheckCover(int64_t rows, int64_t cols, std::span<const WeightSlice> slices);

}  // namespace phi::kernels
