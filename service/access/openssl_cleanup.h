#pragma once

namespace phi::service {

// For main, before anything uses OpenSSL: exit() then does not clean it up. gRPC's threads outlive
// main; one that ends behind the clean-up loses its state, and one in a handshake finds it gone.
void SkipOpenSslCleanup();

}  // namespace phi::service
