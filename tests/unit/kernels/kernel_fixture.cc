#include "tests/unit/kernels/kernel_fixture.h"

#include <cstring>
#include <limits>

#include "kernels/base/check.h"
#include "kernels/base/convert.h"

namespace phi::kernels {

Matrix RandomMatrix(int64_t rows, int64_t cols, DType dtype, uint32_t seed, float deviation) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, deviation);
  Matrix matrix(rows, cols);
  for (float& value : matrix.values) {
    value = Stored(dtype, normal(random));
  }
  return matrix;
}

float Stored(DType dtype, float value) {
  switch (dtype) {
    case DType::kFloat32:
      return value;
    case DType::kBFloat16:
      return BFloat16ToFloat(FloatToBFloat16(value));
    case DType::kFloat16:
      return Float16ToFloat(FloatToFloat16(value));
  }
  return value;
}

std::string CaseName(const testing::TestParamInfo<BackendCase>& info) {
  return info.param.name + "_" + std::string(DTypeName(info.param.dtype));
}

std::vector<BackendCase> InvariantCases() {
  std::vector<BackendCase> cases = MachineCases();
  std::erase_if(cases, [](const BackendCase& each) { return !each.batch_invariant; });
  return cases;
}

OperandBuffer::OperandBuffer(DType dtype, int64_t rows, int64_t cols)
    : dtype_(dtype), rows_(rows), cols_(cols), stride_(cols + 3) {
  // All ones are a NaN in either dtype.
  bytes_.assign(static_cast<size_t>(rows_ * stride_ * ElementBytes()), std::byte{0xff});
}

OperandBuffer::OperandBuffer(DType dtype, const Matrix& values)
    : OperandBuffer(dtype, values.rows, values.cols) {
  for (int64_t row = 0; row < rows_; ++row) {
    ConvertRow(DType::kFloat32,
               reinterpret_cast<const std::byte*>(&values.values[static_cast<size_t>(row * cols_)]),
               cols_,
               dtype_,
               bytes_.data() + row * stride_ * ElementBytes());
  }
}

Operands OperandBuffer::operands(int64_t first_row) {
  return {bytes_.data() + first_row * stride_ * ElementBytes(), stride_};
}

Matrix OperandBuffer::Values() const {
  Matrix values(rows_, cols_);
  for (int64_t row = 0; row < rows_; ++row) {
    ConvertRow(dtype_,
               bytes_.data() + row * stride_ * ElementBytes(),
               cols_,
               DType::kFloat32,
               reinterpret_cast<std::byte*>(&values.values[static_cast<size_t>(row * cols_)]));
  }
  return values;
}

SimpleBatch::SimpleBatch(int64_t rows)
    : token_ids(static_cast<size_t>(rows)),
      positions(static_cast<size_t>(rows)),
      sequence_{.num_rows = static_cast<int32_t>(rows)} {}

StepBatch SimpleBatch::batch() const {
  return {.token_ids = token_ids,
          .positions = positions,
          .sequences = std::span(&sequence_, 1),
          .block_ids = {},
          .logits_rows = logits_rows};
}

std::unique_ptr<PackedMatrix> KernelTest::Pack(Backend& backend, const Matrix& weights) {
  const WeightSlice slice = {.data = reinterpret_cast<const std::byte*>(weights.values.data()),
                             .dtype = DType::kFloat32,
                             .rows = weights.rows,
                             .cols = weights.cols,
                             .row_stride = weights.cols};
  auto packed = backend.PackMatrix(weights.rows, weights.cols, std::span(&slice, 1));
  PHI_CHECK(packed.ok(), "%s", packed.status().ToString().c_str());
  return *std::move(packed);
}

}  // namespace phi::kernels
