#include "kernels/base/quoted.h"

#include "absl/strings/escaping.h"

namespace phi {
namespace {

bool ContinuesCharacter(char byte) { return (static_cast<unsigned char>(byte) & 0xC0U) == 0x80U; }

}  // namespace

std::string Quoted(std::string_view text) {
  constexpr size_t kLongest = 160;
  constexpr size_t kCharacterBytes = 4;
  if (text.size() <= kLongest) return absl::Utf8SafeCHexEscape({text.data(), text.size()});
  size_t end = kLongest;
  while (end > kLongest - kCharacterBytes && ContinuesCharacter(text[end])) --end;
  return absl::Utf8SafeCHexEscape({text.data(), end}) + "...";
}

}  // namespace phi
