#include "shard/checkpoint/elements.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels/base/convert.h"

namespace phi::shard {
namespace {

using kernels::DType;

// value of a 16-bit float with that many fraction bits, from the definition of IEEE 754.
double SmallFloat(uint32_t bits, int fraction_bits, int bias) {
  const uint32_t exponent = (bits & 0x7FFFU) >> fraction_bits;
  const double fraction = (bits & ((1U << fraction_bits) - 1)) / std::ldexp(1.0, fraction_bits);
  const double magnitude = exponent == 0
                               ? std::ldexp(fraction, 1 - bias)
                               : std::ldexp(1.0 + fraction, static_cast<int>(exponent) - bias);
  return (bits & 0x8000U) != 0 ? -magnitude : magnitude;
}

TEST(ElementsTest, All65536ValuesOfBothSmallFloatsAreExact) {
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
    const bool half = dtype == DType::kFloat16;
    for (uint32_t bits = 0; bits < 65536; ++bits) {
      const auto word = static_cast<uint16_t>(bits);
      std::vector<float> value;
      AppendFloats(std::as_bytes(std::span(&word, 1)), dtype, value);
      ASSERT_EQ(value.size(), 1U);
      const bool finite = ((bits & 0x7FFFU) >> (half ? 10 : 7)) != (half ? 0x1FU : 0xFFU);
      ASSERT_EQ(std::isfinite(value[0]), finite) << bits;
      const auto bytes = std::as_bytes(std::span(&word, 1));
      for (const DType computed : {DType::kFloat32, DType::kBFloat16}) {
        ASSERT_EQ(FirstNonfinite(bytes, dtype, computed).has_value(), !finite) << bits;
      }
      if (finite) {
        ASSERT_EQ(static_cast<double>(value[0]),
                  half ? SmallFloat(bits, 10, 15) : SmallFloat(bits, 7, 127))
            << bits;
      } else {
        ASSERT_EQ(std::isnan(value[0]), (bits & (half ? 0x3FFU : 0x7FU)) != 0) << bits;
      }
    }
  }
}

TEST(ElementsTest, AFloatIsItself) {
  const std::vector<float> values = {0.0F, -0.0F, 1e-45F, 3.4e38F, -1.25F};
  std::vector<float> read = {7.0F};
  AppendFloats(std::as_bytes(std::span(values)), DType::kFloat32, read);
  ASSERT_EQ(read.size(), values.size() + 1);
  EXPECT_EQ(std::memcmp(read.data() + 1, values.data(), values.size() * sizeof(float)), 0);
}

// The first of several, wherever it is, at any alignment.
TEST(ElementsTest, FindsTheFirstNonfiniteElement) {
  std::mt19937 random(7);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(),
                          std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    for (const size_t count : {1U, 31U, 4096U, 4097U, 12345U}) {
      std::vector<float> values(count, std::numeric_limits<float>::max());
      const size_t at = random() % count;
      for (size_t i = at; i < count; ++i) values[i] = bad;
      std::vector<std::byte> bytes(count * sizeof(float) + 1);
      std::memcpy(bytes.data() + 1, values.data(), count * sizeof(float));
      const auto found = [&](size_t num_values) {
        const auto part = std::span(bytes).subspan(1, num_values * sizeof(float));
        return FirstNonfinite(part, DType::kFloat32, DType::kFloat32);
      };
      EXPECT_EQ(found(count), at);
      EXPECT_EQ(found(at), std::nullopt);
    }
  }
}

// Each bfloat16, and floats around where rounding to a float16 begins to overflow, against the
// rounding itself.
TEST(ElementsTest, WhatOverflowsAFloat16IsNotFiniteInIt) {
  const auto overflows = [](float value) {
    return !std::isfinite(kernels::Float16ToFloat(kernels::FloatToFloat16(value)));
  };
  int bad = 0;
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto word = static_cast<uint16_t>(bits);
    const auto bytes = std::as_bytes(std::span(&word, 1));
    ASSERT_EQ(FirstNonfinite(bytes, DType::kBFloat16, DType::kFloat16).has_value(),
              overflows(kernels::BFloat16ToFloat(word)))
        << bits;
    bad += FirstNonfinite(bytes, DType::kBFloat16, DType::kFloat16).has_value() ? 1 : 0;
  }
  EXPECT_EQ(bad, 2 * (0x8000 - 0x4780));
  for (const float value : {65504.0F, std::nextafter(65520.0F, 0.0F), 65520.0F, -65520.0F, 1e30F}) {
    const auto bytes = std::as_bytes(std::span(&value, 1));
    EXPECT_EQ(FirstNonfinite(bytes, DType::kFloat32, DType::kFloat16).has_value(), overflows(value))
        << value;
  }
  EXPECT_TRUE(overflows(65520.0F));
}

TEST(ElementsTest, WhatOverflowsABFloat16IsNotFiniteInIt) {
  const float largest = 0x1.fep127F;
  const float rounds_down = std::nextafter(0x1.ffp127F, 0.0F);
  for (const float sign : {1.0F, -1.0F}) {
    for (const auto& [value, overflows] :
         {std::pair(largest, false), std::pair(rounds_down, false), std::pair(0x1.ffp127F, true)}) {
      const float signed_value = sign * value;
      const auto bytes = std::as_bytes(std::span(&signed_value, 1));
      EXPECT_EQ(FirstNonfinite(bytes, DType::kFloat32, DType::kBFloat16).has_value(), overflows);
      EXPECT_EQ(FirstNonfinite(bytes, DType::kFloat32, DType::kFloat32), std::nullopt);
    }
  }
}

}  // namespace
}  // namespace phi::shard
