#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/dtype.h"

// Conversions between the element types, one value at a time. NaN stays NaN; rounding is to nearest
// even. (C++20 has no 16-bit floating-point types: both are carried as uint16_t.)
namespace phi::kernels {

inline float BFloat16ToFloat(uint16_t value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value) << 16);
}

inline uint16_t FloatToBFloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U)
    return static_cast<uint16_t>((bits >> 16) | 0x40U);  // quiet NaN
  return static_cast<uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

inline float Float16ToFloat(uint16_t value) {
  constexpr uint32_t kExponentMask = 0x7c00U << 13;
  constexpr uint32_t kRebias = (127U - 15U) << 23;
  const uint32_t sign = static_cast<uint32_t>(value & 0x8000U) << 16;
  uint32_t bits = static_cast<uint32_t>(value & 0x7fffU) << 13;
  const uint32_t exponent = bits & kExponentMask;
  bits += kRebias;
  if (exponent == kExponentMask) {  // infinity, NaN
    bits += (128U - 16U) << 23;
  } else if (exponent == 0) {  // subnormal: let the subtraction normalise it
    constexpr uint32_t kSmallestNormal = (127U - 14U) << 23;
    bits = std::bit_cast<uint32_t>(std::bit_cast<float>(bits + (1U << 23)) -
                                   std::bit_cast<float>(kSmallestNormal));
  }
  return std::bit_cast<float>(bits | sign);
}

inline uint16_t FloatToFloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000U);
  uint32_t magnitude = bits & 0x7fffffffU;
  if (magnitude > 0x7f800000U) return sign | uint16_t{0x7e00};   // quiet NaN
  if (magnitude >= 0x477ff000U) return sign | uint16_t{0x7c00};  // 65520 and above is infinity
  if (magnitude < 0x38800000U) {
    // Subnormal: beside 0.5, a float's last bit is worth as much as the smallest half.
    const float rounded = std::bit_cast<float>(magnitude) + 0.5F;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(rounded) - 0x3f000000U));
  }
  magnitude -= (127U - 15U) << 23;
  return static_cast<uint16_t>(sign | ((magnitude + 0xfffU + ((magnitude >> 13) & 1U)) >> 13));
}

// Readers of one unaligned element of a checkpoint.
struct ReadFloat32 {
  static constexpr int64_t kBytes = 4;
  static float Read(const std::byte* from) {
    float value;
    std::memcpy(&value, from, sizeof(value));
    return value;
  }
};

template <float (*kToFloat)(uint16_t)>
struct ReadHalf {
  static constexpr int64_t kBytes = 2;
  static float Read(const std::byte* from) {
    uint16_t value;
    std::memcpy(&value, from, sizeof(value));
    return kToFloat(value);
  }
};
using ReadBFloat16 = ReadHalf<BFloat16ToFloat>;
using ReadFloat16 = ReadHalf<Float16ToFloat>;

// Calls visitor(Reader()) with the reader of `dtype`, so that the choice stands outside the
// visitor's loop.
template <class Visitor>
void VisitReader(DType dtype, Visitor&& visitor) {
  switch (dtype) {
    case DType::kFloat32:
      return visitor(ReadFloat32());
    case DType::kBFloat16:
      return visitor(ReadBFloat16());
    case DType::kFloat16:
      return visitor(ReadFloat16());
  }
}

// `count` elements from one dtype to another; `to` is aligned to its elements.
void ConvertRow(
    DType from_dtype, const std::byte* from, int64_t count, DType to_dtype, std::byte* to);

}  // namespace phi::kernels
