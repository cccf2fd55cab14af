#include "service/text/byte_level.h"

#include <array>
#include <cstdint>

namespace phi::service {
namespace {

constexpr int kAlphabetEnd = 0x144;  // one past the highest character: 256 + 68 unprintable bytes

bool IsPrintableLatin1(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Alphabet {
  std::array<uint16_t, 256> character{};
  std::array<int16_t, kAlphabetEnd> byte{};  // -1: not of the alphabet
};

Alphabet MakeAlphabet() {
  Alphabet alphabet;
  alphabet.byte.fill(-1);
  int next_unprintable = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const int character = IsPrintableLatin1(byte) ? byte : next_unprintable++;
    alphabet.character[static_cast<size_t>(byte)] = static_cast<uint16_t>(character);
    alphabet.byte[static_cast<size_t>(character)] = static_cast<int16_t>(byte);
  }
  return alphabet;
}

const Alphabet& GetAlphabet() {
  static const Alphabet alphabet = MakeAlphabet();
  return alphabet;
}

}  // namespace

std::string ByteLevelCharacter(unsigned char byte) {
  const unsigned character = GetAlphabet().character[byte];
  if (character < 0x80) return std::string(1, static_cast<char>(character));
  return {static_cast<char>(0xC0 | (character >> 6)), static_cast<char>(0x80 | (character & 0x3F))};
}

std::optional<std::string> BytesFromByteLevel(std::string_view written) {
  const Alphabet& alphabet = GetAlphabet();
  std::string bytes;
  bytes.reserve(written.size());
  for (size_t i = 0; i < written.size(); ++i) {
    unsigned character = static_cast<unsigned char>(written[i]);
    if (character >= 0x80) {
      // The alphabet ends at U+0143, so its characters have at most two bytes.
      if (character >= 0xE0 || i + 1 >= written.size()) return std::nullopt;
      character = (character & 0x1F) << 6 | (static_cast<unsigned char>(written[++i]) & 0x3F);
    }
    if (character >= kAlphabetEnd || alphabet.byte[character] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(alphabet.byte[character]));
  }
  return bytes;
}

std::string ByteLevelTokenBytes(std::string_view written) {
  return BytesFromByteLevel(written).value_or(std::string(written));
}

}  // namespace phi::service
