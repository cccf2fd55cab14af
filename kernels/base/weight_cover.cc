#include "kernels/base/weight_cover.h"

#include <string>

namespace phi::kernels {
namespace {

bool Overlap(const WeightSlice& a, const WeightSlice& b) {
  return a.to_row < b.to_row + b.rows && b.to_row < a.to_row + a.rows &&
         a.to_col < b.to_col + b.cols && b.to_col < a.to_col + a.cols;
}

}  // namespace

absl::Status CheckCover(int64_t rows, int64_t cols, std::span<const WeightSlice> slices) {
  int64_t covered = 0;
  for (size_t i = 0; i < slices.size(); ++i) {
    const WeightSlice& slice = slices[i];
    if (slice.rows < 0 || slice.cols < 0 || slice.to_row < 0 || slice.to_col < 0 ||
        slice.to_row + slice.rows > rows || slice.to_col + slice.cols > cols) {
      return absl::InvalidArgumentError("weight slice " + std::to_string(i) +
                                        " leaves the packed matrix");
    }
    for (size_t j = 0; j < i; ++j) {
      if (Overlap(slice, slices[j])) {
        return absl::InvalidArgumentError("weight slices " + std::to_string(j) + " and " +
                                          std::to_string(i) + " overlap");
      }
    }
    covered += slice.rows * slice.cols;
  }
  if (covered != rows * cols) {
    return absl::InvalidArgumentError("weight slices cover " + std::to_string(covered) + " of " +
                                      std::to_string(rows * cols) + " weights");
  }
  return absl::OkStatus();
}

}  // namespace phi::kernels
