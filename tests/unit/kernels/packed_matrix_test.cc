#include "kernels/cpu/packed_matrix.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels/base/convert.h"

namespace phi::kernels {
namespace {

TEST(ConvertTest, EveryBFloat16SurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float value = BFloat16ToFloat(half);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(BFloat16ToFloat(FloatToBFloat16(value))));
    } else {
      EXPECT_EQ(FloatToBFloat16(value), half);
    }
  }
}

TEST(ConvertTest, RoundsToNearestEven) {
  const auto round = [](float value) { return BFloat16ToFloat(FloatToBFloat16(value)); };
  EXPECT_EQ(round(1.0F + 0x1p-8F), 1.0F);                      // half way, 1.0 is even
  EXPECT_EQ(round(1.0F + 0x1p-7F + 0x1p-8F), 1.0F + 0x1p-6F);  // half way, the upper is even
  EXPECT_EQ(round(1.0F + 0x1p-8F + 0x1p-20F), 1.0F + 0x1p-7F);
  EXPECT_EQ(round(-1.0F - 0x1p-8F), -1.0F);
  EXPECT_EQ(round(std::numeric_limits<float>::max()), std::numeric_limits<float>::infinity());
  EXPECT_TRUE(
      std::isnan(round(std::bit_cast<float>(0x7f800001U))));  // payload in the low bits only
}

TEST(ConvertTest, EveryFloat16IsExact) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const uint32_t exponent = (bits >> 10) & 0x1f;
    const uint32_t mantissa = bits & 0x3ff;
    const float value = Float16ToFloat(static_cast<uint16_t>(bits));
    if (exponent == 0x1f) {
      EXPECT_EQ(std::isnan(value), mantissa != 0);
      EXPECT_EQ(std::isinf(value), mantissa == 0);
    } else {
      const double magnitude = exponent == 0
                                   ? std::ldexp(mantissa, -24)
                                   : std::ldexp(1024 + mantissa, static_cast<int>(exponent) - 25);
      EXPECT_EQ(std::abs(value), magnitude) << bits;
    }
    EXPECT_EQ(std::signbit(value), (bits & 0x8000) != 0);
  }
}

// A tensor of a checkpoint: its bytes start at an odd address.
class Tensor {
 public:
  Tensor(DType dtype, int64_t rows, int64_t cols, uint32_t seed)
      : dtype_(dtype), rows_(rows), cols_(cols) {
    const auto element_bytes = DTypeBytes(dtype);
    bytes_.resize(static_cast<size_t>(rows * cols) * element_bytes + 1);
    std::mt19937 random(seed);
    std::uniform_real_distribution<float> uniform(-4.0F, 4.0F);
    for (int64_t i = 0; i < rows * cols; ++i) {
      const float value = uniform(random);
      auto half = static_cast<uint16_t>(random());
      if (dtype == DType::kBFloat16) half = FloatToBFloat16(value);
      if (dtype == DType::kFloat16) half &= 0xbfff;  // no infinity or NaN
      std::memcpy(&bytes_[1 + static_cast<size_t>(i) * element_bytes],
                  dtype == DType::kFloat32 ? static_cast<const void*>(&value) : &half,
                  element_bytes);
    }
  }

  const std::byte* data() const { return bytes_.data() + 1; }
  float At(int64_t row, int64_t col) const {
    const std::byte* from = data() + (row * cols_ + col) * static_cast<int64_t>(DTypeBytes(dtype_));
    float value = 0;
    VisitReader(dtype_, [&](auto reader) { value = reader.Read(from); });
    return value;
  }
  // The whole tensor.
  WeightSlice Slice(int64_t to_row, int64_t to_col) const {
    return {data(), dtype_, rows_, cols_, cols_, to_row, to_col};
  }

 private:
  DType dtype_;
  int64_t rows_;
  int64_t cols_;
  std::vector<std::byte> bytes_;
};

float RoundTo(DType dtype, float value) {
  return dtype == DType::kFloat32 ? value : BFloat16ToFloat(FloatToBFloat16(value));
}

struct PackCase {
  DType from;
  DType to;
  int64_t rows;
  int64_t cols;
};

class PackTest : public testing::TestWithParam<PackCase> {};

TEST_P(PackTest, RoundTrip) {
  const auto [from, to, rows, cols] = GetParam();
  const Tensor tensor(from, rows, cols, 1);
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    const WeightSlice slice = tensor.Slice(0, 0);
    const auto packed = CpuPackedMatrix::Pack(to, rows, cols, std::span(&slice, 1), pool);
    ASSERT_TRUE(packed.ok()) << packed.status();
    EXPECT_EQ((*packed)->bytes(), CpuPackedMatrix::PackedBytes(to, rows, cols));
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t col = 0; col < cols; ++col) {
        ASSERT_EQ((*packed)->At(row, col), RoundTo(to, tensor.At(row, col))) << row << ", " << col;
      }
    }
  }
}

std::vector<PackCase> PackCases() {
  std::vector<PackCase> cases;
  for (const DType from : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
    for (const DType to : {DType::kFloat32, DType::kBFloat16}) {
      for (const auto& [rows, cols] : {std::pair(1, 1), {16, 2}, {31, 33}, {33, 300}, {50, 127}}) {
        cases.push_back({from, to, rows, cols});
      }
    }
  }
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Shapes, PackTest, testing::ValuesIn(PackCases()));

// [q; k; u] stacked by rows with a column slice beside them, as W_in and W_out are put together:
// blocks of other tensors, cut out with a stride.
TEST(PackedMatrixTest, AssemblesSlices) {
  const Tensor left(DType::kBFloat16, 40, 60, 2);
  const Tensor right(DType::kFloat32, 40, 21, 3);
  WeightSlice top = left.Slice(0, 0);  // rows 5 .. 23, columns 7 .. 38 of left
  top.data += (5 * 60 + 7) * 2;
  top.rows = 19;
  top.cols = 31;
  WeightSlice bottom = left.Slice(19, 0);  // rows 30 .. 39, columns 7 .. 38 of left
  bottom.data += (30 * 60 + 7) * 2;
  bottom.rows = 10;
  bottom.cols = 31;
  WeightSlice side = right.Slice(0, 31);
  side.rows = 29;
  const std::vector<WeightSlice> slices = {top, bottom, side};
  ThreadPool pool(2);
  const auto packed = CpuPackedMatrix::Pack(DType::kBFloat16, 29, 52, slices, pool);
  ASSERT_TRUE(packed.ok()) << packed.status();
  for (int64_t row = 0; row < 29; ++row) {
    for (int64_t col = 0; col < 52; ++col) {
      const float expected = col >= 31  ? right.At(row, col - 31)
                             : row < 19 ? left.At(row + 5, col + 7)
                                        : left.At(row - 19 + 30, col + 7);
      ASSERT_EQ((*packed)->At(row, col), RoundTo(DType::kBFloat16, expected)) << row << ", " << col;
    }
  }
}

TEST(PackedMatrixTest, RefusesSlicesThatDoNotCoverOnce) {
  const Tensor tensor(DType::kFloat32, 8, 8, 4);
  ThreadPool pool(1);
  const auto code = [&](std::vector<WeightSlice> slices) {
    return CpuPackedMatrix::Pack(DType::kFloat32, 8, 16, slices, pool).status().code();
  };
  EXPECT_EQ(code({tensor.Slice(0, 0), tensor.Slice(0, 8)}), absl::StatusCode::kOk);
  EXPECT_EQ(code({tensor.Slice(0, 0)}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({tensor.Slice(0, 0), tensor.Slice(0, 0)}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({tensor.Slice(0, 0), tensor.Slice(1, 8)}), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace phi::kernels
