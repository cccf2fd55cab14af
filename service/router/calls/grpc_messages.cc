#include "service/router/calls/grpc_messages.h"

#include <grpcpp/impl/codegen/proto_utils.h>

#include <random>

#include "absl/strings/str_format.h"
#include "service/api/error.h"
#include "service/router/request_limits.h"

namespace phi::service {

absl::Status ParseMessage(const grpc::ByteBuffer& bytes, google::protobuf::Message& message) {
  grpc::ByteBuffer copy(bytes);  // shares the slices
  grpc::ProtoBufferReader reader(&copy);
  if (reader.status().ok() && message.ParseFromZeroCopyStream(&reader)) return absl::OkStatus();
  return MakeError(ErrorReason::kMalformedRequest,
                   "the bytes are not this method's message in UTF-8");
}

grpc::ByteBuffer SerializeMessage(const google::protobuf::Message& message) {
  grpc::ByteBuffer bytes;
  bool own_buffer = false;
  // Fails for messages above 2 GiB only, which no limit here lets through.
  (void)grpc::GenericSerialize<grpc::ProtoBufferWriter, google::protobuf::Message>(
      message, &bytes, &own_buffer);
  return bytes;
}

uint64_t RandomSeed() {
  thread_local std::random_device device;
  return (uint64_t{device()} << 32U) | device();
}

std::string RequestIdOrNew(const std::string& asked) {
  if (!asked.empty() && CheckRequestId(asked).ok()) return asked;
  return absl::StrFormat("%016x%016x", RandomSeed(), RandomSeed());
}

void AddErrorTrailers(const absl::Status& status, grpc::ServerContextBase& context) {
  const auto details = GetErrorDetails(status);
  if (!details.has_value() || !details->retry_after.has_value()) return;
  context.AddTrailingMetadata("grpc-retry-pushback-ms",
                              std::to_string(absl::ToInt64Milliseconds(*details->retry_after)));
}

void AddRequestId(const std::string& request_id,
                  const absl::Status& status,
                  grpc::ServerContextBase& context) {
  const auto details = GetErrorDetails(status);
  if (details.has_value() && details->retry_after.has_value()) {
    context.AddTrailingMetadata("phi-request-id", request_id);
  } else {
    context.AddInitialMetadata("phi-request-id", request_id);
  }
}

std::string CallerOf(const std::string& token_name, const grpc::ServerContextBase& context) {
  if (!token_name.empty()) return token_name;
  const std::string peer = context.peer();
  return peer.substr(0, peer.rfind(':'));
}

}  // namespace phi::service
