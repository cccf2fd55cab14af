#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kernels/dtype.h"

// Elements of a checkpoint as they lie in the file: little-endian, of any alignment. `bytes` hold
// whole elements.
namespace phi::shard {

// The index of the first NaN or infinity, or of what would become one when rounded to `computed`.
// (A float16 holds nothing that a bfloat16 or float32 does not.)
std::optional<size_t> FirstNonfinite(std::span<const std::byte> bytes,
                                     kernels::DType dtype,
                                     kernels::DType computed);

// Exact.
void AppendFloats(std::span<const std::byte> bytes,
                  kernels::DType dtype,
                  std::vector<float>& values);

}  // namespace phi::shard
