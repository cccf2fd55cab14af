#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace phi::service {

// An address that the leader of every epoch will listen on.
struct ListenAddress {
  std::string text;  // "127.0.0.1:50052", "[::1]:50052": the host as given, the port chosen
  bool loopback = false;
};

// Binds HOST:PORT and gives it free again: says at once when it is taken, and turns port 0 into one
// that every epoch then uses. INVALID_ARGUMENT for what is no address, UNAVAILABLE naming the
// address when it cannot be bound.
absl::StatusOr<ListenAddress> ProbeListenAddress(const std::string& host_and_port);

}  // namespace phi::service
