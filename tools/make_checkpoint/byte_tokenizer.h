#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace phi::tools {

inline constexpr uint32_t kByteTokenizerSize = 257;
inline constexpr std::string_view kEndOfText = "<|endoftext|>";

// The text of a tokenizer.json whose token ids are the bytes themselves; 256 is <|endoftext|>.
// Format: Hugging Face tokenizers, byte-level BPE without merges.
std::string ByteTokenizerJson();

// The id of <|endoftext|> in the text of a tokenizer.json; nothing where it has none or is no JSON.
std::optional<uint32_t> FindEndOfText(std::string_view tokenizer_json);

}  // namespace phi::tools
