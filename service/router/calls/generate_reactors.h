#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include "service/router/router_context.h"

namespace phi::service {

// The server's side of one Generate call; owns itself until its RPC is done. `response` is gRPC's.
grpc::ServerUnaryReactor* StartGenerate(RouterContext& context,
                                        grpc::CallbackServerContext& rpc,
                                        const grpc::ByteBuffer& request,
                                        grpc::ByteBuffer& response);

// The same of one GenerateStream call.
grpc::ServerWriteReactor<grpc::ByteBuffer>* StartGenerateStream(RouterContext& context,
                                                                grpc::CallbackServerContext& rpc,
                                                                const grpc::ByteBuffer& request);

}  // namespace phi::service
