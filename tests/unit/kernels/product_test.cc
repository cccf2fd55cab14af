#include <gmock/gmock.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <numeric>

#include "tests/unit/kernels/kernel_fixture.h"

namespace phi::kernels {
namespace {

using testing::ElementsAreArray;

// y = x · W^T in double, and how far a float32 sum of it in any order may be off.
struct ReferenceProduct {
  std::vector<double> value;
  std::vector<double> bound;

  ReferenceProduct(const Matrix& x, const Matrix& weights) {
    for (int64_t row = 0; row < x.rows; ++row) {
      for (int64_t out = 0; out < weights.rows; ++out) {
        double sum = 0;
        double magnitude = 0;
        for (int64_t k = 0; k < x.cols; ++k) {
          const double term = static_cast<double>(x(row, k)) * weights(out, k);
          sum += term;
          magnitude += std::abs(term);
        }
        value.push_back(sum);
        // vdpbf16ps flushes what is below the smallest normal float; one more rounding is for the
        // bias.
        const auto terms = static_cast<double>(x.cols);
        bound.push_back(AccumulatedRoundoff(terms + 1) * magnitude + terms * FLT_MIN);
      }
    }
  }
};

double GeluNew(double u) {
  return 0.5 * u * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (u + 0.044715 * u * u * u)));
}

// The error of gelu_new itself in float32: the exponent z is off by a few roundings of |z|, which
// is what e^z is off by relatively; the largest slope of gelu_new is below 1.2.
double GeluBound(double u, double u_bound) {
  const double z = 2 * std::sqrt(2.0 / M_PI) * std::abs(u + 0.044715 * u * u * u);
  return 1.2 * u_bound + AccumulatedRoundoff(8 + 6 * z) * std::abs(GeluNew(u)) + FLT_MIN;
}

struct ProductShape {
  int64_t rows;
  int64_t cols;
  int64_t qkv_cols;
  int64_t mlp_cols;
};

// Odd sizes, splits inside and between panels, more rows than one block, K beyond one cache block
// of steps; rows of operands at 16-byte boundaries (with the three elements of padding); eight rows
// that a GPU's shared memory may or may not have room for together.
constexpr ProductShape kShapes[] = {{1, 1, 1, 1},
                                    {1, 31, 33, 17},
                                    {2, 64, 48, 64},
                                    {3, 33, 20, 45},
                                    {5, 7, 16, 1},
                                    {8, 100, 31, 130},
                                    {13, 65, 3, 200},
                                    {16, 48, 96, 32},
                                    {17, 17, 17, 17},
                                    {65, 129, 40, 60},
                                    {300, 33, 35, 40},
                                    {14, 1101, 20, 20},
                                    {24, 61, 40, 60},
                                    {8, 6000, 12, 12}};

class ProductTest : public KernelTest {};

TEST_P(ProductTest, InProjection) {
  const auto backend = MakeBackend();
  for (const auto& [rows, cols, qkv_cols, mlp_cols] : kShapes) {
    SCOPED_TRACE(testing::Message()
                 << rows << " x " << cols << " -> " << qkv_cols << " + " << mlp_cols);
    const Matrix x = RandomMatrix(rows, cols, dtype(), 1);
    const Matrix weights = RandomMatrix(qkv_cols + mlp_cols, cols, dtype(), 2, 0.3F);
    const Matrix bias = RandomMatrix(1, qkv_cols + mlp_cols, DType::kFloat32, 3);
    const auto packed = Pack(*backend, weights);
    OperandBuffer in(dtype(), x);
    OperandBuffer mlp(dtype(), rows, mlp_cols);
    Matrix qkv(rows, qkv_cols);
    const SimpleBatch batch(rows);
    backend->BeginStep(batch.batch());
    backend->InProjection(
        in.operands(), *packed, bias.values.data(), qkv_cols, qkv.values.data(), mlp.operands());
    ASSERT_TRUE(backend->FinishStep().ok());
    const ReferenceProduct reference(x, weights);
    const Matrix activated = mlp.Values();
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t n = 0; n < qkv_cols + mlp_cols; ++n) {
        const auto i = static_cast<size_t>(row * (qkv_cols + mlp_cols) + n);
        const double sum = reference.value[i] + bias(0, n);
        const double bound = reference.bound[i] + AccumulatedRoundoff(1) * std::abs(sum);
        if (n < qkv_cols) {
          ASSERT_NEAR(qkv(row, n), sum, bound) << row << ", " << n;
        } else {
          const double expected = GeluNew(sum);
          const double stored = GeluBound(sum, bound) + StorageError(dtype(), expected);
          ASSERT_NEAR(activated(row, n - qkv_cols), expected, stored * 1.01) << row << ", " << n;
        }
      }
    }
  }
}

TEST_P(ProductTest, OutProjection) {
  const auto backend = MakeBackend(3);
  for (const auto& [rows, cols, outputs, unused] : kShapes) {
    SCOPED_TRACE(testing::Message() << rows << " x " << cols << " -> " << outputs);
    const Matrix x = RandomMatrix(rows, cols, dtype(), 4);
    const Matrix weights = RandomMatrix(outputs, cols, dtype(), 5);
    const auto packed = Pack(*backend, weights);
    OperandBuffer in(dtype(), x);
    Matrix partial(rows, outputs);
    const SimpleBatch batch(rows);
    backend->BeginStep(batch.batch());
    backend->OutProjection(in.operands(), *packed, partial.values.data());
    ASSERT_TRUE(backend->FinishStep().ok());
    const ReferenceProduct reference(x, weights);
    for (size_t i = 0; i < partial.values.size(); ++i) {
      ASSERT_NEAR(partial.values[i], reference.value[i], reference.bound[i]) << i;
    }
  }
}

TEST_P(ProductTest, LmHeadGathersItsRows) {
  const auto backend = MakeBackend();
  const Matrix x = RandomMatrix(40, 50, dtype(), 6);
  const Matrix weights = RandomMatrix(77, 50, dtype(), 7);
  const Matrix bias = RandomMatrix(1, 77, DType::kFloat32, 8);
  const auto packed = Pack(*backend, weights);
  OperandBuffer in(dtype(), x);
  SimpleBatch batch(40);
  batch.logits_rows = {0, 3, 17, 39};
  Matrix logits(4, 77);
  backend->BeginStep(batch.batch());
  backend->LmHead(in.operands(), *packed, bias.values.data(), logits.values.data());
  ASSERT_TRUE(backend->FinishStep().ok());
  const ReferenceProduct reference(x, weights);
  for (int64_t r = 0; r < 4; ++r) {
    for (int64_t n = 0; n < 77; ++n) {
      const auto i = static_cast<size_t>(batch.logits_rows[static_cast<size_t>(r)] * 77 + n);
      const double sum = reference.value[i] + bias(0, n);
      ASSERT_NEAR(logits(r, n), sum, reference.bound[i] + AccumulatedRoundoff(1) * std::abs(sum));
    }
  }
}

TEST_P(ProductTest, NoLogitsWanted) {
  const auto backend = MakeBackend();
  const auto packed = Pack(*backend, RandomMatrix(7, 5, dtype(), 9));
  OperandBuffer in(dtype(), RandomMatrix(3, 5, dtype(), 10));
  const SimpleBatch batch(3);
  backend->BeginStep(batch.batch());
  backend->LmHead(in.operands(), *packed, nullptr, nullptr);
  EXPECT_TRUE(backend->FinishStep().ok());
}

// I1: a row's bits do not depend on how many rows came with it, nor on which row it is, nor on the
// threads.
struct InProjectionResult {
  VisibleVector<float> qkv;
  std::vector<std::byte> mlp;
};

class BitsTest : public KernelTest {
 protected:
  static constexpr int64_t kCols = 1101;
  static constexpr int64_t kQkvCols = 20;
  static constexpr int64_t kMlpCols = 125;
  static constexpr int64_t kRows = 512;

  static InProjectionResult Project(Backend& backend,
                                    const PackedMatrix& weights,
                                    OperandBuffer& in,
                                    const Matrix& bias,
                                    int64_t first_row,
                                    int64_t rows) {
    OperandBuffer mlp(dtype(), rows, kMlpCols);
    VisibleVector<float> qkv(static_cast<size_t>(rows * kQkvCols));
    const SimpleBatch batch(rows);
    backend.BeginStep(batch.batch());
    backend.InProjection(
        in.operands(first_row), weights, bias.values.data(), kQkvCols, qkv.data(), mlp.operands());
    EXPECT_TRUE(backend.FinishStep().ok());
    return {std::move(qkv), {mlp.bytes().begin(), mlp.bytes().end()}};
  }
};

TEST_P(BitsTest, RowsAreTheSameInAnyCompany) {
  OperandBuffer in(dtype(), RandomMatrix(kRows, kCols, dtype(), 11));
  const Matrix weights = RandomMatrix(kQkvCols + kMlpCols, kCols, dtype(), 12);
  const Matrix bias = RandomMatrix(1, kQkvCols + kMlpCols, DType::kFloat32, 13);
  const auto one_thread = MakeBackend(1);
  const auto whole = Project(*one_thread, *Pack(*one_thread, weights), in, bias, 0, kRows);
  const size_t mlp_row_bytes = whole.mlp.size() / kRows;
  for (const int threads : {1, 2, 3}) {
    const auto backend = MakeBackend(threads);
    const auto packed = Pack(*backend, weights);
    for (const int64_t rows : {1, 2, 3, 5, 8, 12, 13, 16, 17, 64, 256, 257, 512}) {
      const int64_t first = std::min<int64_t>(rows * 7 % 101, kRows - rows);
      const auto some = Project(*backend, *packed, in, bias, first, rows);
      ASSERT_EQ(std::memcmp(some.qkv.data(),
                            &whole.qkv[static_cast<size_t>(first * kQkvCols)],
                            some.qkv.size() * 4),
                0)
          << rows << " rows, " << threads << " threads";
      ASSERT_EQ(std::memcmp(some.mlp.data(),
                            &whole.mlp[static_cast<size_t>(first) * mlp_row_bytes],
                            some.mlp.size()),
                0)
          << rows << " rows, " << threads << " threads";
    }
  }
}

// gelu_new is the same code in every lane, those of the last, partly filled vector included.
TEST_P(BitsTest, GeluIsTheSameInEveryLane) {
  const auto backend = MakeBackend();
  const Matrix values = RandomMatrix(64, 1, dtype(), 14, 3.0F);
  for (int64_t mlp_cols = 1; mlp_cols <= 33; ++mlp_cols) {
    Matrix ones(mlp_cols + 3, 1);
    std::fill(ones.values.begin(), ones.values.end(), 1.0F);
    const Matrix no_bias(1, mlp_cols + 3);
    const auto packed = Pack(*backend, ones);
    OperandBuffer in(dtype(), values);
    OperandBuffer mlp(dtype(), values.rows, mlp_cols);
    Matrix qkv(values.rows, 3);
    const SimpleBatch batch(values.rows);
    backend->BeginStep(batch.batch());
    backend->InProjection(
        in.operands(), *packed, no_bias.values.data(), 3, qkv.values.data(), mlp.operands());
    ASSERT_TRUE(backend->FinishStep().ok());
    const Matrix out = mlp.Values();
    for (int64_t row = 0; row < values.rows; ++row) {
      ASSERT_EQ(qkv(row, 2), values(row, 0));
      for (int64_t n = 1; n < mlp_cols; ++n) ASSERT_EQ(out(row, n), out(row, 0)) << mlp_cols;
    }
  }
}

// gelu_new over its whole range, through a product with 1.
TEST_P(BitsTest, GeluIsAccurate) {
  const auto backend = MakeBackend();
  Matrix one(1, 1);
  one(0, 0) = 1.0F;
  const auto packed = Pack(*backend, one);
  Matrix values(8001, 1);
  for (int64_t i = 0; i < values.rows; ++i) values(i, 0) = static_cast<float>(i - 4000) / 256.0F;
  OperandBuffer in(dtype(), values);
  OperandBuffer mlp(dtype(), values.rows, 1);
  const Matrix stored = in.Values();
  const Matrix no_bias(1, 1);
  const SimpleBatch batch(values.rows);
  backend->BeginStep(batch.batch());
  backend->InProjection(in.operands(), *packed, no_bias.values.data(), 0, nullptr, mlp.operands());
  ASSERT_TRUE(backend->FinishStep().ok());
  const Matrix out = mlp.Values();
  for (int64_t i = 0; i < values.rows; ++i) {
    const double u = stored(i, 0);
    const double expected = GeluNew(u);
    // 1 + tanh cancels in the reference too, at double's precision.
    const double bound =
        GeluBound(u, 0) + StorageError(dtype(), expected) + std::abs(u) * DBL_EPSILON;
    ASSERT_NEAR(out(i, 0), expected, bound * 1.01) << u;
  }
}

TEST_P(BitsTest, NotANumberComesThrough) {
  const auto backend = MakeBackend();
  Matrix x = RandomMatrix(3, 40, dtype(), 15);
  x(1, 20) = NAN;
  const Matrix weights = RandomMatrix(20, 40, dtype(), 16);
  const Matrix bias(1, 20);
  const auto packed = Pack(*backend, weights);
  OperandBuffer in(dtype(), x);
  OperandBuffer mlp(dtype(), 3, 10);
  Matrix qkv(3, 10);
  const SimpleBatch batch(3);
  backend->BeginStep(batch.batch());
  backend->InProjection(
      in.operands(), *packed, bias.values.data(), 10, qkv.values.data(), mlp.operands());
  ASSERT_TRUE(backend->FinishStep().ok());
  const Matrix activated = mlp.Values();
  for (int64_t row = 0; row < 3; ++row) {
    for (int64_t n = 0; n < 10; ++n) {
      EXPECT_EQ(std::isnan(qkv(row, n)), row == 1);
      EXPECT_EQ(std::isnan(activated(row, n)), row == 1);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Machine, ProductTest, testing::ValuesIn(MachineCases()), CaseName);
INSTANTIATE_TEST_SUITE_P(Machine, BitsTest, testing::ValuesIn(InvariantCases()), CaseName);

}  // namespace
}  // namespace phi::kernels
