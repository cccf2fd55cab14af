#pragma once

#include <array>
#include <cstdint>

namespace phi::shard {

using PhiloxCounter = std::array<uint32_t, 4>;
using PhiloxKey = std::array<uint32_t, 2>;

// Philox 4x32-10: random numbers as a pure function of (key, counter), so that a draw depends on
// its seed, sample and position and on no other draw (I1). Source: Salmon et al., "Parallel Random
// Numbers: As Easy as 1, 2, 3", SC 2011 (the Random123 library).
constexpr PhiloxCounter Philox4x32(PhiloxCounter counter, PhiloxKey key) {
  constexpr int kRounds = 10;
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<uint32_t>(product0)};
    key[0] += 0x9E3779B9;  // the golden ratio
    key[1] += 0xBB67AE85;  // sqrt(3) - 1
  }
  return counter;
}

// Uniform in [0, 1) with 53 random bits, the same for the same three numbers.
constexpr double UniformDraw(uint64_t seed, uint32_t sample_index, uint32_t position) {
  const PhiloxCounter bits =
      Philox4x32({position, sample_index, 0, 0},
                 {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  const uint64_t mantissa = (uint64_t{bits[0] >> 5} << 26) | (bits[1] >> 6);
  return static_cast<double>(mantissa) * 0x1p-53;
}

}  // namespace phi::shard
