#include "service/access/tls_files.h"

#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <ctime>
#include <memory>

#include "absl/strings/str_format.h"
#include "kernels/base/status_macros.h"
#include "service/access/small_file.h"

namespace phi::service {
namespace {

template <auto Free>
struct Deleter {
  void operator()(auto* object) const { Free(object); }
};
using Bio = std::unique_ptr<BIO, Deleter<BIO_free>>;
using Certificate = std::unique_ptr<X509, Deleter<X509_free>>;
using PrivateKey = std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY_free>>;

// Nobody is there to type one: an encrypted key is refused instead of asked for on the terminal.
int NoPassword(char* /*buffer*/, int /*size*/, int /*writing*/, void* /*user*/) { return 0; }

absl::Status FileError(std::string_view flag, const std::string& path, std::string_view what) {
  ERR_clear_error();
  return absl::InvalidArgumentError(absl::StrFormat("%s: %s: %s", flag, path, what));
}

absl::StatusOr<Certificate> ReadCertificate(std::string_view flag, const std::string& path) {
  PHI_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(flag, path));
  const Bio bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  Certificate certificate(PEM_read_bio_X509(bio.get(), nullptr, NoPassword, nullptr));
  if (certificate == nullptr) return FileError(flag, path, "no PEM certificate in it");
  return certificate;
}

absl::StatusOr<PrivateKey> ReadKey(std::string_view flag, const std::string& path) {
  PHI_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(flag, path));
  const Bio bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  PrivateKey key(PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassword, nullptr));
  if (key == nullptr) return FileError(flag, path, "no unencrypted PEM private key in it");
  return key;
}

}  // namespace

absl::Status CheckServerTlsFlags(const TlsFiles& files) {
  if (files.cert.empty() != files.key.empty())
    return absl::InvalidArgumentError("--tls_cert and --tls_key go together");
  if (!files.peer_ca.empty() && files.cert.empty())
    return absl::InvalidArgumentError("--tls_client_ca needs --tls_cert and --tls_key");
  return absl::OkStatus();
}

absl::Status CheckTlsFiles(const TlsFiles& files, std::string_view ca_flag) {
  if (!files.cert.empty()) {
    PHI_ASSIGN_OR_RETURN(const Certificate certificate, ReadCertificate("--tls_cert", files.cert));
    PHI_ASSIGN_OR_RETURN(const PrivateKey key, ReadKey("--tls_key", files.key));
    if (X509_check_private_key(certificate.get(), key.get()) != 1)
      return FileError("--tls_key", files.key, "not the key of --tls_cert's certificate");
  }
  if (!files.peer_ca.empty()) {
    PHI_RETURN_IF_ERROR(ReadCertificate(ca_flag, files.peer_ca).status());
  }
  return absl::OkStatus();
}

absl::StatusOr<absl::Time> CertificateExpiry(const std::string& cert) {
  PHI_ASSIGN_OR_RETURN(const Certificate certificate, ReadCertificate("--tls_cert", cert));
  std::tm end = {};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate.get()), &end) != 1)
    return FileError("--tls_cert", cert, "its end is no time");
  return absl::FromTM(end, absl::UTCTimeZone());
}

}  // namespace phi::service
