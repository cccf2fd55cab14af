#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace phi::service {

// One side of TLS: PEM files, empty where not given. A server with a certificate speaks TLS alone,
// and asks every client for a certificate where it has a `peer_ca`; a client with a `peer_ca` dials
// by TLS and shows its certificate where it has one.
struct TlsFiles {
  std::string cert;     // --tls_cert: the chain, the leaf first
  std::string key;      // --tls_key
  std::string peer_ca;  // --tls_client_ca of a server, --replica_tls_ca of a router to its replicas
};

// INVALID_ARGUMENT, one line, where --tls_cert, --tls_key and --tls_client_ca do not go together.
absl::Status CheckServerTlsFlags(const TlsFiles& files);

// Reads what is there: INVALID_ARGUMENT naming the file that is unreadable, no PEM, or a key of
// another certificate. `ca_flag` is what `peer_ca` is called.
absl::Status CheckTlsFiles(const TlsFiles& files, std::string_view ca_flag);

// When the leaf certificate ends.
absl::StatusOr<absl::Time> CertificateExpiry(const std::string& cert);

}  // namespace phi::service
