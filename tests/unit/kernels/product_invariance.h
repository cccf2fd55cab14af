#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <initializer_list>
#include <string>

#include "kernels/base/convert.h"
#include "kernels/cuda/cuda_backend.h"
#include "tests/unit/kernels/kernel_fixture.h"

// Whether a row's product on CUDA depends on the rows beside it.
namespace phi::kernels {

inline constexpr int64_t kCols = 1024;
inline constexpr int64_t kOutputs = 48;
inline constexpr int64_t kCompanyRows = 64;

// The products of the first `rows` rows.
inline VisibleVector<float> MultiplyRows(const CudaOptions& options, int64_t rows) {
  const auto backend = *MakeCudaBackend(options);
  const Matrix weights = RandomMatrix(kOutputs, kCols, options.dtype, 1);
  const WeightSlice slice = {.data = reinterpret_cast<const std::byte*>(weights.values.data()),
                             .dtype = DType::kFloat32,
                             .rows = kOutputs,
                             .cols = kCols,
                             .row_stride = kCols};
  const auto packed = *backend->PackMatrix(kOutputs, kCols, std::span(&slice, 1));
  const Matrix values = RandomMatrix(kCompanyRows, kCols, options.dtype, 2);
  // Rows at 16-byte boundaries, which the library insists on.
  VisibleVector<std::byte> in(static_cast<size_t>(kCompanyRows * kCols) *
                              DTypeBytes(options.dtype));
  ConvertRow(DType::kFloat32,
             reinterpret_cast<const std::byte*>(values.values.data()),
             kCompanyRows * kCols,
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
inline bool IsInvariant(DType dtype, bool batch_invariant) {
  const CudaOptions options = {.dtype = dtype, .batch_invariant = batch_invariant};
  const VisibleVector<float> all = MultiplyRows(options, kCompanyRows);
  return std::ranges::all_of(std::initializer_list<int64_t>{1, 8, 9, 33}, [&](int64_t rows) {
    const VisibleVector<float> some = MultiplyRows(options, rows);
    return std::equal(some.begin(), some.end(), all.begin());
  });
}

inline std::string DTypeCaseName(const testing::TestParamInfo<DType>& info) {
  return std::string(DTypeName(info.param));
}

}  // namespace phi::kernels
