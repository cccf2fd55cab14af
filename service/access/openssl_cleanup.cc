#include "service/access/openssl_cleanup.h"

#include <openssl/crypto.h>

namespace phi::service {

void SkipOpenSslCleanup() { OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, nullptr); }

}  // namespace phi::service
