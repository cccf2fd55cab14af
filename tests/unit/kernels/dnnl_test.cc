#include <cmath>
#include <dnnl.hpp>

#include "tests/unit/kernels/kernel_fixture.h"

namespace phi::kernels {
namespace {

class DnnlTest : public KernelTest {};

// oneDNN's matmul as the oracle of a product large enough for every tile shape and several cache
// blocks.
TEST_P(DnnlTest, OutProjectionAgrees) {
  constexpr int64_t kRows = 70;
  constexpr int64_t kCols = 1500;
  constexpr int64_t kOutputs = 333;
  Matrix x = RandomMatrix(kRows, kCols, dtype(), 1);
  Matrix weights = RandomMatrix(kOutputs, kCols, dtype(), 2);
  const auto backend = MakeBackend();
  const auto packed = Pack(*backend, weights);
  OperandBuffer in(dtype(), x);
  Matrix ours(kRows, kOutputs);
  const SimpleBatch batch(kRows);
  backend->BeginStep(batch.batch());
  backend->OutProjection(in.operands(), *packed, ours.values.data());

  using Format = dnnl::memory::format_tag;
  constexpr auto kFloat = dnnl::memory::data_type::f32;
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const dnnl::memory::desc x_desc({kRows, kCols}, kFloat, Format::ab);
  const dnnl::memory::desc w_desc({kCols, kOutputs}, kFloat, Format::ba);
  const dnnl::memory::desc y_desc({kRows, kOutputs}, kFloat, Format::ab);
  Matrix theirs(kRows, kOutputs);
  dnnl::memory x_memory(x_desc, engine, x.values.data());
  dnnl::memory w_memory(w_desc, engine, weights.values.data());
  dnnl::memory y_memory(y_desc, engine, theirs.values.data());
  const dnnl::matmul product(
      dnnl::matmul::primitive_desc(dnnl::matmul::desc(x_desc, w_desc, y_desc), engine));
  product.execute(
      stream, {{DNNL_ARG_SRC, x_memory}, {DNNL_ARG_WEIGHTS, w_memory}, {DNNL_ARG_DST, y_memory}});
  stream.wait();

  for (int64_t row = 0; row < kRows; ++row) {
    for (int64_t n = 0; n < kOutputs; ++n) {
      double magnitude = 0;
      for (int64_t k = 0; k < kCols; ++k)
        magnitude += std::abs(static_cast<double>(x(row, k)) * weights(n, k));
      // Both sums round at each term.
      ASSERT_NEAR(ours(row, n), theirs(row, n), 2 * AccumulatedRoundoff(kCols) * magnitude)
          << row << ", " << n;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Machine, DnnlTest, testing::ValuesIn(MachineCases()), CaseName);

}  // namespace
}  // namespace phi::kernels
