#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

// The file of --token_file: who may call. One line a token,
//
//   NAME:SHA256[:LIMITS]      team-a:9f86d0...0a08:requests=8,tokens_per_minute=60000
//
// NAME is 1 to 64 letters, digits, dots, dashes and underscores; SHA256 the 64 hexadecimal digits
// of the token's hash. One name on several lines, with the same limits, is one caller with several
// tokens, which is how a token is replaced. Empty lines and lines that start with # are skipped.
namespace phi::service {

struct CallerLimits {
  // Calls under way at once. 0: the caller is known and may do nothing.
  std::optional<uint32_t> requests;
  // Prompt and generated tokens, on average.
  std::optional<uint32_t> tokens_per_minute;  // above 0

  bool operator==(const CallerLimits&) const = default;
};

struct TokenEntry {
  std::string name;
  std::array<unsigned char, 32> sha256 = {};
  CallerLimits limits;
};

inline constexpr size_t kMaxTokens = 1'000;

// INVALID_ARGUMENT naming the line that is wrong, never with its text; also for a file without a
// token, which would lock everybody out.
absl::StatusOr<std::vector<TokenEntry>> ParseTokenFile(std::string_view text);

// The entry of a token, or null. Takes the same time for every token of one length: all hashes are
// compared, each whole.
const TokenEntry* FindToken(std::span<const TokenEntry> entries, std::string_view token);

}  // namespace phi::service
