#include "tools/make_checkpoint/random_elements.h"

#include <bit>
#include <cmath>
#include <cstring>

namespace phi::tools {
namespace {

// The output function of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number
// generators, 2014).
uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}
constexpr uint64_t kGoldenGamma = 0x9E3779B97F4A7C15ULL;

// The sum of four uniform numbers of 16 bits less its mean (Irwin-Hall): nearly normal, and exact
// in a float.
int32_t SumOfFour(uint64_t bits) {
  const auto part = [bits](int index) {
    return static_cast<int32_t>((bits >> (16 * index)) & 0xFFFFU);
  };
  return part(0) + part(1) + part(2) + part(3) - 2 * 65535;
}
// Its deviation: sqrt(4 * (65536^2 - 1) / 12).
constexpr float kSumDeviation = 37837.227F;

uint16_t ToBFloat16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

// Round to nearest even. Weights are far from the largest half, 65504.
uint16_t ToFloat16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000U);
  const float magnitude = std::bit_cast<float>(bits & 0x7FFFFFFFU);
  if (magnitude <
      0x1p-14F) {  // a subnormal half counts steps of 2^-24, which nearbyint rounds to even
    return static_cast<uint16_t>(sign | static_cast<uint16_t>(std::nearbyint(magnitude * 0x1p24F)));
  }
  const uint32_t rebased = (bits & 0x7FFFFFFFU) - (uint32_t{127 - 15} << 23);
  return static_cast<uint16_t>(sign | ((rebased + 0xFFFU + ((rebased >> 13) & 1U)) >> 13));
}

template <typename Stored, typename Convert>
void FillAs(const RandomTensor& tensor,
            uint64_t first,
            std::span<std::byte> bytes,
            Convert convert) {
  const float scale = tensor.distribution.deviation / kSumDeviation;
  const float mean = tensor.distribution.mean;
  const size_t count = bytes.size() / sizeof(Stored);
  for (size_t i = 0; i < count; ++i) {
    const uint64_t bits = Mix(tensor.key + (first + i) * kGoldenGamma);
    const Stored stored = convert(mean + static_cast<float>(SumOfFour(bits)) * scale);
    std::memcpy(bytes.data() + i * sizeof(Stored), &stored, sizeof(Stored));
  }
}

float PerInput(float gain, int64_t inputs) { return gain / std::sqrt(static_cast<float>(inputs)); }

}  // namespace

Distribution DistributionOf(std::string_view name, const shard::ModelConfig& config) {
  const int64_t hidden = config.hidden_size;
  if (name.ends_with("norm.weight")) return {.mean = 1, .deviation = 0.1F};
  if (name.ends_with(".bias")) return {.deviation = 0.1F};
  // A tied embedding is the head too, and the first LayerNorm takes its scale away again.
  if (name == "lm_head.weight" ||
      (name == "model.embed_tokens.weight" && config.tie_word_embeddings)) {
    return {.deviation = PerInput(2, hidden)};
  }
  if (name == "model.embed_tokens.weight") return {.deviation = 1};
  if (name.ends_with("q_proj.weight") || name.ends_with("k_proj.weight"))
    return {.deviation = PerInput(1.25F, hidden)};
  if (name.ends_with("dense.weight"))
    return {.deviation = PerInput(1, int64_t{config.num_heads} * config.head_dim)};
  if (name.ends_with("fc2.weight")) return {.deviation = PerInput(1, config.intermediate_size)};
  return {.deviation = PerInput(1, hidden)};
}

void RandomTensor::Fill(uint64_t first, std::span<std::byte> bytes) const {
  switch (dtype) {
    case kernels::DType::kFloat32:
      return FillAs<float>(*this, first, bytes, [](float value) { return value; });
    case kernels::DType::kBFloat16:
      return FillAs<uint16_t>(*this, first, bytes, ToBFloat16);
    case kernels::DType::kFloat16:
      return FillAs<uint16_t>(*this, first, bytes, ToFloat16);
  }
}

RandomTensor MakeRandomTensor(uint64_t seed,
                              std::string_view name,
                              const shard::ModelConfig& config) {
  uint64_t key = Mix(seed + kGoldenGamma);
  for (const char c : name) key = Mix((key ^ static_cast<unsigned char>(c)) + kGoldenGamma);
  return {.key = key, .distribution = DistributionOf(name, config), .dtype = config.dtype};
}

}  // namespace phi::tools
