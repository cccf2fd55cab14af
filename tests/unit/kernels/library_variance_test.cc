// The comparison of invariance_test.cc can fail: without batch_invariant the host harness's
// stand-in of cuBLASLt orders its sums by the number of rows. The library itself may, and may not.
#include <gtest/gtest.h>

#include "tests/unit/kernels/product_invariance.h"

namespace phi::kernels {
namespace {

class LibraryVarianceTest : public testing::TestWithParam<DType> {};

TEST_P(LibraryVarianceTest, TheFastestProductsDependOnTheirCompany) {
  EXPECT_FALSE(IsInvariant(GetParam(), /*batch_invariant=*/false));
}

INSTANTIATE_TEST_SUITE_P(DTypes,
                         LibraryVarianceTest,
                         testing::Values(DType::kFloat32, DType::kBFloat16, DType::kFloat16),
                         DTypeCaseName);

}  // namespace
}  // namespace phi::kernels
