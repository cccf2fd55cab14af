#include "service/access/tls_monitor.h"

#include "service/telemetry/logging.h"

namespace phi::service {

void TlsMonitor::Look() {
  std::string trouble(CheckTlsFiles(files_, "--tls_client_ca").message());
  const absl::StatusOr<absl::Time> expiry = CertificateExpiry(files_.cert);
  if (expiry.ok()) {
    expiry_.Set(static_cast<double>(absl::ToUnixSeconds(*expiry)));
    if (trouble.empty() && *expiry <= absl::Now()) trouble = "--tls_cert: it has expired";
  }
  if (trouble == trouble_) return;
  if (trouble.empty()) {
    LogInfo("the TLS files are right again");
  } else {
    LogError("the TLS files are wrong: new connections may fail", {{"error", trouble}});
  }
  trouble_ = std::move(trouble);
}

}  // namespace phi::service
