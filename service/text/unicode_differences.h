#pragma once

#include <array>
#include <cstdint>

namespace phi::service {

// Where the Unicode data of the two regular-expression libraries differ: PCRE2 10.42 (Debian 12)
// holds Unicode 14.0; Oniguruma, as bundled in Hugging Face tokenizers 0.23.3, holds Unicode 16.0.
// Each row is a range that Hugging Face takes for a letter (\p{L}) or number (\p{N}) and PCRE2 does
// not know. No code point is a letter or number to PCRE2 alone. One more differs in \s: PCRE2
// counts U+180E, which Unicode took out of the spaces in 6.3; word_splitter.cc therefore spells \s
// out. Found by classifying all 1,112,064 characters with both (tools/golden/tokenizer_vectors.py
// writes Hugging Face's answer to tests/golden/tokenizer/, and a test compares every one with
// ours).
enum class UnicodeClass : char { kLetter = 'L', kNumber = 'N' };

struct UnicodeDifference {
  uint32_t first;
  uint32_t last;  // inclusive
  UnicodeClass hugging_face;
};

inline constexpr auto kUnicodeDifferences = std::to_array<UnicodeDifference>({
    {0x1C89, 0x1C8A, UnicodeClass::kLetter},   {0xA7CB, 0xA7CD, UnicodeClass::kLetter},
    {0xA7DA, 0xA7DC, UnicodeClass::kLetter},   {0x105C0, 0x105F3, UnicodeClass::kLetter},
    {0x10D40, 0x10D49, UnicodeClass::kNumber}, {0x10D4A, 0x10D65, UnicodeClass::kLetter},
    {0x10D6F, 0x10D85, UnicodeClass::kLetter}, {0x10EC2, 0x10EC4, UnicodeClass::kLetter},
    {0x1123F, 0x11240, UnicodeClass::kLetter}, {0x11380, 0x11389, UnicodeClass::kLetter},
    {0x1138B, 0x1138B, UnicodeClass::kLetter}, {0x1138E, 0x1138E, UnicodeClass::kLetter},
    {0x11390, 0x113B5, UnicodeClass::kLetter}, {0x113B7, 0x113B7, UnicodeClass::kLetter},
    {0x113D1, 0x113D1, UnicodeClass::kLetter}, {0x113D3, 0x113D3, UnicodeClass::kLetter},
    {0x116D0, 0x116E3, UnicodeClass::kNumber}, {0x11BC0, 0x11BE0, UnicodeClass::kLetter},
    {0x11BF0, 0x11BF9, UnicodeClass::kNumber}, {0x11F02, 0x11F02, UnicodeClass::kLetter},
    {0x11F04, 0x11F10, UnicodeClass::kLetter}, {0x11F12, 0x11F33, UnicodeClass::kLetter},
    {0x11F50, 0x11F59, UnicodeClass::kNumber}, {0x1342F, 0x1342F, UnicodeClass::kLetter},
    {0x13441, 0x13446, UnicodeClass::kLetter}, {0x13460, 0x143FA, UnicodeClass::kLetter},
    {0x16100, 0x1611D, UnicodeClass::kLetter}, {0x16130, 0x16139, UnicodeClass::kNumber},
    {0x16D40, 0x16D6C, UnicodeClass::kLetter}, {0x16D70, 0x16D79, UnicodeClass::kNumber},
    {0x18CFF, 0x18CFF, UnicodeClass::kLetter}, {0x1B132, 0x1B132, UnicodeClass::kLetter},
    {0x1B155, 0x1B155, UnicodeClass::kLetter}, {0x1CCF0, 0x1CCF9, UnicodeClass::kNumber},
    {0x1D2C0, 0x1D2D3, UnicodeClass::kNumber}, {0x1DF25, 0x1DF2A, UnicodeClass::kLetter},
    {0x1E030, 0x1E06D, UnicodeClass::kLetter}, {0x1E4D0, 0x1E4EB, UnicodeClass::kLetter},
    {0x1E4F0, 0x1E4F9, UnicodeClass::kNumber}, {0x1E5D0, 0x1E5ED, UnicodeClass::kLetter},
    {0x1E5F0, 0x1E5F0, UnicodeClass::kLetter}, {0x1E5F1, 0x1E5FA, UnicodeClass::kNumber},
    {0x2B739, 0x2B739, UnicodeClass::kLetter}, {0x2EBF0, 0x2EE5D, UnicodeClass::kLetter},
    {0x31350, 0x323AF, UnicodeClass::kLetter},
});

}  // namespace phi::service
