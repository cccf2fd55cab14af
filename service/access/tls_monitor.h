#pragma once

#include <string>
#include <utility>

#include "service/access/tls_files.h"
#include "service/telemetry/metric_page.h"

namespace phi::service {

// Says of a server's certificate files what gRPC, which watches them too, does not: until when they
// are good, and when they do not go together. One thread at a time.
class TlsMonitor {
 public:
  // `expiry`: phi_tls_certificate_expiry_timestamp_seconds.
  TlsMonitor(TlsFiles files, MetricPage::Series expiry)
      : files_(std::move(files)), expiry_(expiry) {}

  // Reads the files; logs a line when they get wrong, expire, or are right again.
  void Look();

 private:
  const TlsFiles files_;
  const MetricPage::Series expiry_;
  std::string trouble_;  // logged last
};

}  // namespace phi::service
