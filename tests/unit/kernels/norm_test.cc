#include <cmath>
#include <cstring>

#include "kernels/base/convert.h"
#include "tests/unit/kernels/kernel_fixture.h"

namespace phi::kernels {
namespace {

class NormTest : public KernelTest {};

// LayerNorm of one row in double, and the bound on its error in float32: mean and variance are sums
// of `size` terms (16 of them side by side), and what is subtracted from x is off by the error of
// the mean.
void ExpectNormalized(const float* x,
                      const Matrix& gamma,
                      const Matrix& beta,
                      double epsilon,
                      const Matrix& out,
                      int64_t row,
                      DType dtype) {
  const int64_t size = out.cols;
  const auto n = static_cast<double>(size);
  double mean = 0;
  double magnitude = 0;
  for (int64_t i = 0; i < size; ++i) {
    mean += x[i] / n;
    magnitude += std::abs(x[i]) / n;
  }
  double variance = 0;
  for (int64_t i = 0; i < size; ++i) variance += (x[i] - mean) * (x[i] - mean) / n;
  const double deviation = std::sqrt(variance + epsilon);
  const double sum_error = AccumulatedRoundoff(n / 16 + 6);
  for (int64_t i = 0; i < size; ++i) {
    const double unit = (x[i] - mean) / deviation;
    const double expected = gamma(0, i) * unit + beta(0, i);
    const double centre_error =
        (sum_error * magnitude + kFloatRoundoff * std::abs(x[i] - mean)) / deviation;
    // The variance is off by its sum's error and by the centres' (twice, relative to the
    // deviation).
    const double unit_error =
        centre_error + std::abs(unit) * (sum_error + 2 * sum_error * magnitude / deviation +
                                         AccumulatedRoundoff(4));
    const double bound = std::abs(gamma(0, i)) * unit_error +
                         AccumulatedRoundoff(2) * std::abs(expected) +
                         StorageError(dtype, expected);
    ASSERT_NEAR(out(row, i), expected, bound * 1.01)
        << "row " << row << ", column " << i << " of " << size;
  }
}

constexpr int64_t kSizes[] = {1, 2, 15, 16, 17, 31, 33, 64, 100, 2048};

TEST_P(NormTest, LayerNorm) {
  const auto backend = MakeBackend();
  for (const int64_t size : kSizes) {
    for (const int64_t rows : {1, 3, 40}) {
      Matrix hidden = RandomMatrix(rows, size, DType::kFloat32, 1);
      for (float& value : hidden.values)
        value += 5.0F;  // a mean that E[x^2] - mean^2 would stumble over
      const Matrix before = hidden;
      const Matrix gamma = RandomMatrix(1, size, DType::kFloat32, 2);
      const Matrix beta = RandomMatrix(1, size, DType::kFloat32, 3);
      OperandBuffer out(dtype(), rows, size);
      const SimpleBatch batch(rows);
      backend->BeginStep(batch.batch());
      backend->LayerNorm(hidden.values.data(),
                         size,
                         {gamma.values.data(), beta.values.data(), 1e-5F},
                         out.operands());
      ASSERT_TRUE(backend->FinishStep().ok());
      EXPECT_EQ(hidden.values, before.values);
      for (int64_t row = 0; row < rows; ++row) {
        ExpectNormalized(&hidden.values[static_cast<size_t>(row * size)],
                         gamma,
                         beta,
                         1e-5F,
                         out.Values(),
                         row,
                         dtype());
      }
    }
  }
}

TEST_P(NormTest, ResidualLayerNorm) {
  const auto backend = MakeBackend();
  for (const int64_t size : kSizes) {
    constexpr int64_t kRows = 7;
    Matrix hidden = RandomMatrix(kRows, size, DType::kFloat32, 4);
    const Matrix before = hidden;
    const Matrix partial = RandomMatrix(kRows, size, DType::kFloat32, 5);
    const Matrix bias = RandomMatrix(1, size, DType::kFloat32, 6);
    const Matrix gamma = RandomMatrix(1, size, DType::kFloat32, 7);
    const Matrix beta = RandomMatrix(1, size, DType::kFloat32, 8);
    OperandBuffer out(dtype(), kRows, size);
    const SimpleBatch batch(kRows);
    backend->BeginStep(batch.batch());
    backend->ResidualLayerNorm(hidden.values.data(),
                               partial.values.data(),
                               bias.values.data(),
                               size,
                               {gamma.values.data(), beta.values.data(), 1e-3F},
                               out.operands());
    ASSERT_TRUE(backend->FinishStep().ok());
    for (int64_t row = 0; row < kRows; ++row) {
      for (int64_t i = 0; i < size; ++i) {
        const double terms[] = {before(row, i), partial(row, i), bias(0, i)};
        const double bound =
            AccumulatedRoundoff(2) * (std::abs(terms[0]) + std::abs(terms[1]) + std::abs(terms[2]));
        ASSERT_NEAR(hidden(row, i), terms[0] + terms[1] + terms[2], bound);
      }
      ExpectNormalized(&hidden.values[static_cast<size_t>(row * size)],
                       gamma,
                       beta,
                       1e-3F,
                       out.Values(),
                       row,
                       dtype());
    }
  }
}

// I1: neither the other rows nor the threads change a row.
TEST_P(NormTest, RowsAreTheSameInAnyCompany) {
  constexpr int64_t kSize = 203;
  constexpr int64_t kRows = 300;
  Matrix hidden = RandomMatrix(kRows, kSize, DType::kFloat32, 9);
  const Matrix gamma = RandomMatrix(1, kSize, DType::kFloat32, 10);
  const Matrix beta = RandomMatrix(1, kSize, DType::kFloat32, 11);
  const NormWeights norm = {gamma.values.data(), beta.values.data(), 1e-5F};
  const auto normalize = [&](int threads, int64_t first, int64_t rows) {
    const auto backend = MakeBackend(threads);
    OperandBuffer out(dtype(), rows, kSize);
    const SimpleBatch batch(rows);
    backend->BeginStep(batch.batch());
    backend->LayerNorm(
        &hidden.values[static_cast<size_t>(first * kSize)], kSize, norm, out.operands());
    EXPECT_TRUE(backend->FinishStep().ok());
    return std::vector<std::byte>(out.bytes().begin(), out.bytes().end());
  };
  const auto whole = normalize(1, 0, kRows);
  for (const int threads : {1, 2, 3}) {
    EXPECT_EQ(normalize(threads, 0, kRows), whole);
    const auto row = normalize(threads, 123, 1);
    EXPECT_EQ(std::memcmp(row.data(), &whole[whole.size() / kRows * 123], row.size()), 0);
  }
}

TEST_P(NormTest, EmbedTakesRowsOfTheTable) {
  const auto backend = MakeBackend();
  for (const DType stored : {DType::kFloat32, DType::kBFloat16}) {
    constexpr int64_t kVocab = 50;
    constexpr int64_t kSize = 700;
    const Matrix table = RandomMatrix(kVocab, kSize, stored, 12);
    OperandBuffer tensor(stored, table);  // with a stride
    const auto uploaded = backend->UploadTable({.data = tensor.operands().data,
                                                .dtype = stored,
                                                .rows = kVocab,
                                                .cols = kSize,
                                                .row_stride = tensor.operands().stride});
    ASSERT_TRUE(uploaded.ok()) << uploaded.status();
    for (const int64_t rows : {1, 90}) {
      SimpleBatch batch(rows);
      for (size_t i = 0; i < batch.token_ids.size(); ++i)
        batch.token_ids[i] = static_cast<int32_t>(i * 7 % kVocab);
      Matrix hidden(rows, kSize);
      backend->BeginStep(batch.batch());
      backend->Embed(**uploaded, kSize, hidden.values.data());
      ASSERT_TRUE(backend->FinishStep().ok());
      for (int64_t row = 0; row < rows; ++row) {
        for (int64_t i = 0; i < kSize; ++i) {
          const float value = table(row * 7 % kVocab, i);
          ASSERT_EQ(hidden(row, i), Stored(dtype(), value));
        }
      }
    }
  }
}

TEST_P(NormTest, UploadFloatsAndCopyToHost) {
  const auto backend = MakeBackend();
  // More than 1 MiB at last, which some copy in parts.
  for (const size_t count : {3, 600'001}) {
    std::vector<float> values(count);
    for (size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i) - 2.5F;
    const auto uploaded = backend->UploadFloats(values);
    ASSERT_TRUE(uploaded.ok()) << uploaded.status();
    std::vector<float> back(count);
    ASSERT_TRUE(backend->CopyToHost(back.data(), (*uploaded)->data(), count * sizeof(float)).ok());
    EXPECT_TRUE(back == values) << count;
  }
}

INSTANTIATE_TEST_SUITE_P(Machine, NormTest, testing::ValuesIn(MachineCases()), CaseName);

}  // namespace
}  // namespace phi::kernels
