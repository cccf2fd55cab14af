// I1 on CUDA: with batch_invariant a row's products have the same bits in any company.
#include <gtest/gtest.h>

#include "tests/unit/kernels/product_invariance.h"

namespace phi::kernels {
namespace {

class CudaInvarianceTest : public testing::TestWithParam<DType> {};

TEST_P(CudaInvarianceTest, BatchInvariantProductsAreTheSameInAnyCompany) {
  EXPECT_TRUE(IsInvariant(GetParam(), /*batch_invariant=*/true));
}

INSTANTIATE_TEST_SUITE_P(DTypes,
                         CudaInvarianceTest,
                         testing::Values(DType::kFloat32, DType::kBFloat16, DType::kFloat16),
                         DTypeCaseName);

}  // namespace
}  // namespace phi::kernels
