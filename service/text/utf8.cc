#include "service/text/utf8.h"

#include <cstdint>
#include <cstring>

namespace phi::service {
namespace {

constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

// Bytes of the character that `lead` begins, or 0 if no character begins so.
size_t CharacterSize(unsigned char lead) {
  if (lead < 0x80) return 1;
  if (lead < 0xC2) return 0;
  if (lead < 0xE0) return 2;
  if (lead < 0xF0) return 3;
  if (lead < 0xF5) return 4;
  return 0;
}

// The second byte alone carries the rules against overlong forms, surrogates and > U+10FFFF.
bool IsSecondByte(unsigned char lead, unsigned char byte) {
  switch (lead) {
    case 0xE0:
      return byte >= 0xA0 && byte <= 0xBF;
    case 0xED:
      return byte >= 0x80 && byte <= 0x9F;
    case 0xF0:
      return byte >= 0x90 && byte <= 0xBF;
    case 0xF4:
      return byte >= 0x80 && byte <= 0x8F;
    default:
      return byte >= 0x80 && byte <= 0xBF;
  }
}

bool IsContinuation(unsigned char byte) { return (byte & 0xC0) == 0x80; }

bool IsAsciiBlock(const char* bytes) {
  uint64_t block;
  std::memcpy(&block, bytes, sizeof(block));
  return (block & 0x8080808080808080U) == 0;
}

}  // namespace

bool IsValidUtf8(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    if (text.size() - i >= 8 && IsAsciiBlock(text.data() + i)) {
      i += 8;
      continue;
    }
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t size = CharacterSize(lead);
    if (size == 0 || text.size() - i < size) return false;
    if (size > 1 && !IsSecondByte(lead, static_cast<unsigned char>(text[i + 1]))) return false;
    for (size_t k = 2; k < size; ++k) {
      if (!IsContinuation(static_cast<unsigned char>(text[i + k]))) return false;
    }
    i += size;
  }
  return true;
}

void Utf8LossyDecoder::AppendByte(unsigned char byte, std::string& out) {
  if (open_size_ > 0) {
    const auto lead = static_cast<unsigned char>(open_[0]);
    if (open_size_ == 1 ? IsSecondByte(lead, byte) : IsContinuation(byte)) {
      open_[open_size_++] = static_cast<char>(byte);
      if (open_size_ == wanted_size_) {
        out.append(open_.data(), open_size_);
        open_size_ = 0;
      }
      return;
    }
    // The byte that broke the character is looked at again, as the first of the next one.
    Finish(out);
  }
  wanted_size_ = CharacterSize(byte);
  if (wanted_size_ == 0) {
    out.append(kReplacementCharacter);
  } else if (wanted_size_ == 1) {
    out.push_back(static_cast<char>(byte));
  } else {
    open_[0] = static_cast<char>(byte);
    open_size_ = 1;
  }
}

void Utf8LossyDecoder::Append(std::string_view bytes, std::string& out) {
  for (const char byte : bytes) AppendByte(static_cast<unsigned char>(byte), out);
}

void Utf8LossyDecoder::Finish(std::string& out) {
  if (open_size_ == 0) return;
  out.append(kReplacementCharacter);
  open_size_ = 0;
}

std::string DecodeUtf8Lossy(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  Utf8LossyDecoder decoder;
  decoder.Append(bytes, out);
  decoder.Finish(out);
  return out;
}

}  // namespace phi::service
