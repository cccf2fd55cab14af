#include "service/api/model_fingerprint.h"

#include <openssl/evp.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <memory>

#include "kernels/base/status_macros.h"

namespace phi::service {
namespace {

using DigestContext = std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)>;

absl::Status AddFile(const std::string& path, EVP_MD_CTX* digest) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError("cannot read " + path);
  std::array<char, 65536> buffer;
  while (file) {
    file.read(buffer.data(), buffer.size());
    if (EVP_DigestUpdate(digest, buffer.data(), static_cast<size_t>(file.gcount())) != 1) {
      return absl::InternalError("SHA-256 failed");
    }
  }
  if (!file.eof()) return absl::NotFoundError("cannot read " + path);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> ModelFingerprint(const std::string& model_dir) {
  const DigestContext digest(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  if (digest == nullptr || EVP_DigestInit_ex(digest.get(), EVP_sha256(), nullptr) != 1) {
    return absl::InternalError("SHA-256 is not available");
  }
  PHI_RETURN_IF_ERROR(AddFile(model_dir + "/config.json", digest.get()));
  PHI_RETURN_IF_ERROR(AddFile(model_dir + "/tokenizer.json", digest.get()));
  std::array<unsigned char, EVP_MAX_MD_SIZE> hash;
  unsigned int hash_bytes = 0;
  if (EVP_DigestFinal_ex(digest.get(), hash.data(), &hash_bytes) != 1) {
    return absl::InternalError("SHA-256 failed");
  }
  constexpr std::string_view kHexDigits = "0123456789abcdef";
  std::string hex;
  for (unsigned int i = 0; i < hash_bytes; ++i) {
    hex += kHexDigits[hash[i] >> 4U];
    hex += kHexDigits[hash[i] & 15U];
  }
  return hex;
}

}  // namespace phi::service
