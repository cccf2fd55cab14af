#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>

namespace phi::service {

// True if `text` is well-formed UTF-8 (Unicode 15.0, table 3-7): no overlong form, no surrogate,
// nothing above U+10FFFF, no character cut short.
bool IsValidUtf8(std::string_view text);

// Turns a stream of bytes, cut anywhere, into whole UTF-8 characters. Bytes that cannot be part of
// one become U+FFFD, one for each "maximal subpart" (Unicode 15.0, section 3.9), which is what
// Rust's String::from_utf8_lossy and so Hugging Face's byte-level decoder do. Splitting the input
// differently never changes the joined output. Not thread-safe.
class Utf8LossyDecoder {
 public:
  // Appends to `out` every character that `bytes` completes; a character still open is kept back.
  void Append(std::string_view bytes, std::string& out);

  // The input has ended: a character still open becomes one U+FFFD.
  void Finish(std::string& out);

  bool has_open_character() const { return open_size_ > 0; }

 private:
  void AppendByte(unsigned char byte, std::string& out);

  std::array<char, 4> open_{};  // the bytes of the open character so far
  size_t open_size_ = 0;
  size_t wanted_size_ = 0;  // bytes that the open character will have
};

// The whole of `bytes` at once.
std::string DecodeUtf8Lossy(std::string_view bytes);

}  // namespace phi::service
