// I1 on CUDA: with batch_invariant a row's products have the same bits in any company. Without it
// they have not, as the stand-in of cuBLASLt, like the library, orders its sums by the number of
// rows; so these comparisons can fail.
#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/base/convert.h"
#include "kernels/cuda/cuda_backend.h"
#include "tests/unit/kernels/kernel_fixture.h"

namespace phi::kernels {
namespace {

constexpr int64_t kCols = 1024;
constexpr int64_t kOutputs = 48;
constexpr int64_t kRows = 64;

class CudaInvarianceTest : public testing::TestWithParam<DType> {
 protected:
  // The products of the first `rows` rows.
  static VisibleVector<float> Multiply(const CudaOptions& options, int64_t rows) {
    const auto backend = *MakeCudaBackend(options);
    const Matrix weights = RandomMatrix(kOutputs, kCols, options.dtype, 1);
    const WeightSlice slice = {.data = reinterpret_cast<const std::byte*>(weights.values.data()),
                               .dtype = DType::kFloat32,
                               .rows = kOutputs,
                               .cols = kCols,
                               .row_stride = kCols};
    const auto packed = *backend->PackMatrix(kOutputs, kCols, std::span(&slice, 1));
    const Matrix values = RandomMatrix(kRows, kCols, options.dtype, 2);
    // Rows at 16-byte boundaries, which the library insists on.
    VisibleVector<std::byte> in(static_cast<size_t>(kRows * kCols) * DTypeBytes(options.dtype));
    ConvertRow(DType::kFloat32,
               reinterpret_cast<const std::byte*>(values.values.data()),
               kRows * kCols,
               options.dtype,
               in.data());
    VisibleVector<float> out(static_cast<size_t>(rows * kOutputs));
    const SimpleBatch batch(rows);
    backend->BeginStep(batch.batch());
    backend->OutProjection({.data = in.data(), .stride = kCols}, *packed, out.data());
    const absl::Status status = backend->FinishStep();
    EXPECT_TRUE(status.ok()) << status;
    return out;
  }

  // Whether the first rows' bits are the same among 1, 8, 9, 33 and 64 rows.
  static bool IsInvariant(bool batch_invariant) {
    const CudaOptions options = {.dtype = GetParam(), .batch_invariant = batch_invariant};
    const VisibleVector<float> all = Multiply(options, kRows);
    return std::ranges::all_of(std::initializer_list<int64_t>{1, 8, 9, 33}, [&](int64_t rows) {
      const VisibleVector<float> some = Multiply(options, rows);
      return std::equal(some.begin(), some.end(), all.begin());
    });
  }
};

TEST_P(CudaInvarianceTest, BatchInvariantProductsAreTheSameInAnyCompany) {
  EXPECT_TRUE(IsInvariant(/*batch_invariant=*/true));
}

TEST_P(CudaInvarianceTest, TheFastestProductsAreNot) {
  EXPECT_FALSE(IsInvariant(/*batch_invariant=*/false));
}

INSTANTIATE_TEST_SUITE_P(DTypes,
                         CudaInvarianceTest,
                         testing::Values(DType::kFloat32, DType::kBFloat16, DType::kFloat16),
                         [](const testing::TestParamInfo<DType>& info) {
                           return std::string(DTypeName(info.param));
                         });

}  // namespace
}  // namespace phi::kernels
