#pragma once

#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>

#include <memory>

#include "service/access/tls_files.h"

// gRPC's credentials of files that CheckTlsFiles has passed. The files are looked at every second,
// and what they hold then is used by the connections made from there on; those that stand go on.
// Certificate and key have to change at once, as by a directory's symbolic link (Kubernetes does
// that): between a new certificate and its key, new connections fail.
namespace phi::service {

// Without a certificate: no TLS.
std::shared_ptr<grpc::ServerCredentials> MakeServerCredentials(const TlsFiles& files);

// Without a peer_ca: no TLS. The server's certificate must be of that authority, be valid now and
// name the host that is dialled (GRPC_SSL_TARGET_NAME_OVERRIDE_ARG names another).
std::shared_ptr<grpc::ChannelCredentials> MakeChannelCredentials(const TlsFiles& files);

}  // namespace phi::service
