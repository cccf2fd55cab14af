#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "tests/unit/kernels/backend_cases.h"

namespace phi::kernels {

// Unit roundoff of float32, and the most by which storing in `dtype` moves a value: bfloat16's unit
// roundoff is the larger one, and float16's smallest subnormals are 2^-24 apart.
inline constexpr double kFloatRoundoff = 0x1p-24;
constexpr double StorageError(DType dtype, double value) {
  const double magnitude = value < 0 ? -value : value;
  if (dtype == DType::kFloat32) return 0.0;
  return 0x1p-8 * magnitude + (dtype == DType::kFloat16 ? 0x1p-25 : 0.0);
}

// The bound of N. Higham, "Accuracy and Stability of Numerical Algorithms", section 3.1, on the
// relative error of `operations` roundings one after the other.
constexpr double AccumulatedRoundoff(double operations) {
  return operations * kFloatRoundoff / (1.0 - operations * kFloatRoundoff);
}

// Row-major floats.
struct Matrix {
  int64_t rows = 0;
  int64_t cols = 0;
  VisibleVector<float> values;

  Matrix(int64_t rows_in, int64_t cols_in)
      : rows(rows_in), cols(cols_in), values(static_cast<size_t>(rows_in * cols_in)) {}
  float& operator()(int64_t row, int64_t col) {
    return values[static_cast<size_t>(row * cols + col)];
  }
  float operator()(int64_t row, int64_t col) const {
    return values[static_cast<size_t>(row * cols + col)];
  }
};

// Normal values, exactly representable in `dtype`.
Matrix RandomMatrix(int64_t rows, int64_t cols, DType dtype, uint32_t seed, float deviation = 1.0F);

// What storing in `dtype` makes of a value.
float Stored(DType dtype, float value);

// Operands [rows, cols] in a backend's dtype, with a stride larger than cols and the padding set to
// NaN, which would show in any result that read it.
class OperandBuffer {
 public:
  OperandBuffer(DType dtype, int64_t rows, int64_t cols);
  OperandBuffer(DType dtype, const Matrix& values);

  Operands operands(int64_t first_row = 0);
  Matrix Values() const;
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  int64_t ElementBytes() const { return static_cast<int64_t>(DTypeBytes(dtype_)); }

  DType dtype_;
  int64_t rows_;
  int64_t cols_;
  int64_t stride_;
  VisibleVector<std::byte> bytes_;
};

// A batch of `rows` rows that is one sequence; products and norms only look at the number of rows.
class SimpleBatch {
 public:
  explicit SimpleBatch(int64_t rows);
  StepBatch batch() const;
  std::vector<int32_t> token_ids;
  std::vector<int32_t> positions;
  std::vector<int32_t> logits_rows;

 private:
  SequenceRows sequence_;
};

class KernelTest : public testing::TestWithParam<BackendCase> {
 protected:
  static DType dtype() { return GetParam().dtype; }
  static std::unique_ptr<Backend> MakeBackend(int threads = 2) { return GetParam().make(threads); }
  static std::unique_ptr<PackedMatrix> Pack(Backend& backend, const Matrix& weights);
};

}  // namespace phi::kernels
