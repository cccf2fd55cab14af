#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/backend.h"

namespace phi::shard {

// A matrix as float32, row-major.
class PlainMatrix : public kernels::PackedMatrix {
 public:
  PlainMatrix(int64_t rows, int64_t cols)
      : values(static_cast<size_t>(rows * cols)), rows_(rows), cols_(cols) {}
  int64_t rows() const override { return rows_; }
  int64_t cols() const override { return cols_; }
  size_t bytes() const override { return values.size() * sizeof(float); }

  std::vector<float> values;

 private:
  int64_t rows_;
  int64_t cols_;
};

// The memory half of a backend, in float32: keeps what it was given, so that a test can look at it.
// It fails the test where rectangles do not cover a matrix exactly once, and it has no step.
std::unique_ptr<kernels::Backend> MakeSliceBackend();

}  // namespace phi::shard
