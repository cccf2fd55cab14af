#include "kernels/base/convert.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace phi::kernels {
namespace {

constexpr uint16_t kInfinity = 0x7c00;

TEST(Float16, EveryValueKeepsItsBits) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float value = Float16ToFloat(half);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(Float16ToFloat(FloatToFloat16(value)))) << bits;
    } else {
      ASSERT_EQ(FloatToFloat16(value), half);
    }
  }
}

// Between two neighbours, subnormal ones included: the middle goes to the even one, and what is
// beside it to the nearer one.
TEST(Float16, RoundsToNearestEven) {
  for (uint16_t low = 0; low < kInfinity - 1; ++low) {
    const auto high = static_cast<uint16_t>(low + 1);
    const float middle = (Float16ToFloat(low) + Float16ToFloat(high)) / 2;
    const uint16_t even = low % 2 == 0 ? low : high;
    ASSERT_EQ(FloatToFloat16(middle), even) << low;
    ASSERT_EQ(FloatToFloat16(-middle), even | 0x8000) << low;
    ASSERT_EQ(FloatToFloat16(std::nextafter(middle, 0.0F)), low);
    ASSERT_EQ(FloatToFloat16(std::nextafter(middle, 1e6F)), high);
  }
}

TEST(Float16, WhatIsTooLargeIsInfinity) {
  EXPECT_EQ(FloatToFloat16(std::nextafter(65520.0F, 0.0F)), 0x7bff);
  EXPECT_EQ(FloatToFloat16(65520.0F), kInfinity);
  EXPECT_EQ(FloatToFloat16(-std::numeric_limits<float>::infinity()), 0xfc00);
}

}  // namespace
}  // namespace phi::kernels
