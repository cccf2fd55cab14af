#include "shard/checkpoint/elements.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels/base/convert.h"

namespace phi::shard {
namespace {

static_assert(std::endian::native == std::endian::little,
              "checkpoints are read as they lie in the file");

template <typename Word>
Word Load(const std::byte* from) {
  Word word;
  std::memcpy(&word, from, sizeof(Word));
  return word;
}

// Without its sign, an IEEE number's bits are ordered as its magnitude is, infinities and NaNs
// last. The blocks have no exit inside, so that the compiler can make vectors of them: this runs
// over every weight at start.
template <typename Word>
std::optional<size_t> FirstFrom(const std::byte* data, size_t count, Word limit) {
  constexpr size_t kBlock = 4096;
  constexpr auto kMagnitude = static_cast<Word>(static_cast<Word>(~Word{0}) >> 1);
  const auto is_bad = [limit](Word bits) { return static_cast<Word>(bits & kMagnitude) >= limit; };
  for (size_t begin = 0; begin < count; begin += kBlock) {
    const size_t end = std::min(begin + kBlock, count);
    Word bad = 0;
    for (size_t i = begin; i < end; ++i) {
      bad = static_cast<Word>(bad | static_cast<Word>(is_bad(Load<Word>(data + i * sizeof(Word)))));
    }
    for (size_t i = begin; bad != 0 && i < end; ++i) {
      if (is_bad(Load<Word>(data + i * sizeof(Word)))) return i;
    }
  }
  return std::nullopt;
}

// The bits of the least magnitude that is NaN or infinity, or becomes one when rounded to
// `computed`: half a step above that type's largest finite number, from where rounding gives
// infinity.
uint32_t FloatLimit(kernels::DType computed) {
  if (computed == kernels::DType::kBFloat16) return 0x7F7F8000U;
  return computed == kernels::DType::kFloat16 ? 0x477FF000U : 0x7F800000U;
}

uint16_t BFloat16Limit(kernels::DType computed) {
  return computed == kernels::DType::kFloat16 ? 0x4780U : 0x7F80U;
}

}  // namespace

std::optional<size_t> FirstNonfinite(std::span<const std::byte> bytes,
                                     kernels::DType dtype,
                                     kernels::DType computed) {
  const size_t count = bytes.size() / kernels::DTypeBytes(dtype);
  switch (dtype) {
    case kernels::DType::kFloat32:
      return FirstFrom<uint32_t>(bytes.data(), count, FloatLimit(computed));
    case kernels::DType::kBFloat16:
      return FirstFrom<uint16_t>(bytes.data(), count, BFloat16Limit(computed));
    case kernels::DType::kFloat16:
      return FirstFrom<uint16_t>(bytes.data(), count, 0x7C00U);
  }
  return std::nullopt;
}

void AppendFloats(std::span<const std::byte> bytes,
                  kernels::DType dtype,
                  std::vector<float>& values) {
  const size_t element = kernels::DTypeBytes(dtype);
  for (size_t at = 0; at + element <= bytes.size(); at += element) {
    const std::byte* from = bytes.data() + at;
    switch (dtype) {
      case kernels::DType::kFloat32:
        values.push_back(Load<float>(from));
        break;
      case kernels::DType::kBFloat16:
        values.push_back(kernels::BFloat16ToFloat(Load<uint16_t>(from)));
        break;
      case kernels::DType::kFloat16:
        values.push_back(kernels::Float16ToFloat(Load<uint16_t>(from)));
        break;
    }
  }
}

}  // namespace phi::shard
