#pragma once

#include <grpcpp/security/auth_metadata_processor.h>

#include <memory>

#include "service/access/access_control.h"

namespace phi::service {

// gRPC's own reflection service has no handler of ours that could ask for a token: this asks before
// it, and lets every other call through (ours ask themselves and answer with a reason; health is
// for everybody). For the server's credentials, which must be TLS. `access` outlives the server.
std::shared_ptr<grpc::AuthMetadataProcessor> MakeReflectionGuard(const AccessControl* access);

}  // namespace phi::service
