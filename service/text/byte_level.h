#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace phi::service {

// The alphabet of byte-level BPE: each of the 256 bytes written as one printable character, so that
// a vocabulary of bytes can be written as JSON strings. Source: bytes_to_unicode in OpenAI GPT-2's
// encoder.py; bytes_char in Hugging Face tokenizers' byte_level.rs.

// The UTF-8 form of the character that stands for `byte`.
std::string ByteLevelCharacter(unsigned char byte);

// The bytes that `written` stands for, or nullopt if one of its characters is not of the alphabet.
// `written` must be valid UTF-8.
std::optional<std::string> BytesFromByteLevel(std::string_view written);

// The bytes that Hugging Face's ByteLevel decoder gives for one token: as above, but a token with
// any character outside the alphabet stands for its own UTF-8 bytes.
std::string ByteLevelTokenBytes(std::string_view written);

}  // namespace phi::service
