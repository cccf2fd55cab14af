#pragma once

#include "phi/v1/generation.grpc.pb.h"
#include "service/router/router_context.h"

namespace phi::service {

// phi.v1.TextGeneration. Every method is a raw one: the handlers parse the bytes themselves, so
// that an unreadable message is INVALID_ARGUMENT with a reason, and counted, where gRPC would
// answer UNIMPLEMENTED by itself.
class RouterService final
    : public phi::v1::TextGeneration::WithRawCallbackMethod_Generate<
          phi::v1::TextGeneration::WithRawCallbackMethod_GenerateStream<
              phi::v1::TextGeneration::WithRawCallbackMethod_Tokenize<
                  phi::v1::TextGeneration::WithRawCallbackMethod_Detokenize<
                      phi::v1::TextGeneration::WithRawCallbackMethod_GetModelInfo<
                          phi::v1::TextGeneration::Service>>>>> {
 public:
  // `context` outlives the service.
  explicit RouterService(RouterContext& context) : context_(context) {}

  grpc::ServerUnaryReactor* Generate(grpc::CallbackServerContext* rpc,
                                     const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* GenerateStream(
      grpc::CallbackServerContext* rpc, const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* rpc,
                                     const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* rpc,
                                       const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* GetModelInfo(grpc::CallbackServerContext* rpc,
                                         const grpc::ByteBuffer* request,
                                         grpc::ByteBuffer* response) override;

 private:
  RouterContext& context_;
};

}  // namespace phi::service
