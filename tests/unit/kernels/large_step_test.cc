// As many rows as --max_step_tokens takes: more than some dimensions of a grid.
#include <gtest/gtest.h>

#include "kernels/cuda/cuda_backend.h"
#include "tests/unit/kernels/kernel_fixture.h"

namespace phi::kernels {
namespace {

constexpr int64_t kRows = 65536;
constexpr int64_t kStride = 8;  // 16 bytes, which cuBLASLt's rows need

// y = x of one column, through plain outputs and gelu_new, which cuBLASLt's products need a kernel
// for.
TEST(CudaLargeStep, InProjectionOfTheMostRows) {
  const auto backend =
      *MakeCudaBackend({.dtype = DType::kBFloat16, .max_step_tokens = kRows, .max_graph_rows = 0});
  const std::vector<float> ones(2, 1.0F);
  const WeightSlice slice = {.data = reinterpret_cast<const std::byte*>(ones.data()),
                             .dtype = DType::kFloat32,
                             .rows = 2,
                             .cols = 1,
                             .row_stride = 1};
  const auto weights = *backend->PackMatrix(2, 1, std::span(&slice, 1));
  const Matrix bias(1, 2);
  VisibleVector<uint16_t> in(static_cast<size_t>(kRows * kStride), 0x3f80);  // 1
  in[static_cast<size_t>((kRows - 1) * kStride)] = 0x4000;                   // 2
  VisibleVector<float> plain(static_cast<size_t>(kRows));
  VisibleVector<uint16_t> gelu(static_cast<size_t>(kRows));
  const SimpleBatch batch(kRows);
  backend->BeginStep(batch.batch());
  backend->InProjection({reinterpret_cast<std::byte*>(in.data()), kStride},
                        *weights,
                        bias.values.data(),
                        1,
                        plain.data(),
                        {reinterpret_cast<std::byte*>(gelu.data()), 1});
  const absl::Status status = backend->FinishStep();
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(plain[0], 1.0F);
  EXPECT_EQ(plain[kRows - 2], 1.0F);
  EXPECT_EQ(plain[kRows - 1], 2.0F);
  EXPECT_EQ(gelu[kRows - 2], gelu[0]);
  EXPECT_GT(gelu[kRows - 1], gelu[0]);  // positive numbers are ordered as their bits are
}

}  // namespace
}  // namespace phi::kernels
