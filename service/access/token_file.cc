#include "service/access/token_file.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>
#include <charconv>

#include "absl/strings/str_format.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"

namespace phi::service {
namespace {

using Sha256 = std::array<unsigned char, 32>;

// What comes before `separator`, which is taken off `text` with it; all of `text` where there is
// none.
std::string_view TakeField(std::string_view& text, char separator) {
  const size_t end = std::min(text.find(separator), text.size());
  const std::string_view field = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return field;
}

bool IsName(std::string_view text) {
  constexpr std::string_view kAllowed =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
  return !text.empty() && text.size() <= 64 &&
         text.find_first_not_of(kAllowed) == std::string_view::npos;
}

bool ParseHash(std::string_view text, Sha256& hash) {
  if (text.size() != 2 * hash.size()) return false;
  for (size_t i = 0; i < hash.size(); ++i) {
    const char* const digits = text.data() + 2 * i;
    const auto [end, error] = std::from_chars(digits, digits + 2, hash[i], 16);
    if (error != std::errc() || end != digits + 2) return false;
  }
  return true;
}

bool ParseCount(std::string_view text, std::optional<uint32_t>& count) {
  if (count.has_value()) return false;  // said twice
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), count.emplace());
  return error == std::errc() && end == text.data() + text.size();
}

bool ParseLimits(std::string_view text, CallerLimits& limits) {
  while (!text.empty()) {
    std::string_view value = TakeField(text, ',');
    const std::string_view name = TakeField(value, '=');
    if (name == "requests") {
      if (!ParseCount(value, limits.requests)) return false;
    } else if (name == "tokens_per_minute") {
      if (!ParseCount(value, limits.tokens_per_minute) || *limits.tokens_per_minute == 0)
        return false;
    } else {
      return false;
    }
  }
  return true;
}

absl::StatusOr<TokenEntry> ParseLine(std::string_view line) {
  TokenEntry entry;
  const std::string_view name = TakeField(line, ':');
  if (!IsName(name)) return absl::InvalidArgumentError("the name is none");
  entry.name = name;
  if (!ParseHash(TakeField(line, ':'), entry.sha256))
    return absl::InvalidArgumentError("the hash is not 64 hexadecimal digits");
  if (!ParseLimits(line, entry.limits))
    return absl::InvalidArgumentError("the limits are not requests=N,tokens_per_minute=N");
  return entry;
}

// A name's limits are one thing, and so is who a hash belongs to.
absl::Status CheckAgainst(const std::vector<TokenEntry>& entries, const TokenEntry& added) {
  if (entries.size() == kMaxTokens)
    return absl::InvalidArgumentError(absl::StrFormat("more than %d tokens", kMaxTokens));
  for (const TokenEntry& entry : entries) {
    if (entry.sha256 == added.sha256)
      return absl::InvalidArgumentError("the hash of a line above once more");
    if (entry.name == added.name && entry.limits != added.limits)
      return absl::InvalidArgumentError("other limits than a line above has for the same name");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<TokenEntry>> ParseTokenFile(std::string_view text) {
  std::vector<TokenEntry> entries;
  for (int number = 1; !text.empty(); ++number) {
    std::string_view line = TakeField(text, '\n');
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.starts_with('#')) continue;
    absl::StatusOr<TokenEntry> entry = ParseLine(line);
    const absl::Status status = entry.ok() ? CheckAgainst(entries, *entry) : entry.status();
    if (!status.ok())
      return absl::InvalidArgumentError(
          absl::StrFormat("line %d: %s", number, std::string(status.message())));
    entries.push_back(*std::move(entry));
  }
  if (entries.empty()) return absl::InvalidArgumentError("no token in it");
  return entries;
}

const TokenEntry* FindToken(std::span<const TokenEntry> entries, std::string_view token) {
  Sha256 hash;
  PHI_CHECK(
      EVP_Digest(token.data(), token.size(), hash.data(), nullptr, EVP_sha256(), nullptr) == 1,
      "no SHA-256 in OpenSSL");
  const TokenEntry* found = nullptr;
  for (const TokenEntry& entry : entries) {
    const bool same = CRYPTO_memcmp(entry.sha256.data(), hash.data(), hash.size()) == 0;
    found = same ? &entry : found;
  }
  return found;
}

}  // namespace phi::service
