#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>

#include <string>

#include "absl/status/status.h"
#include "google/protobuf/message.h"

// What every handler does with bytes and metadata, since all of them are raw methods.
namespace phi::service {

// MALFORMED_REQUEST for bytes that are not the message, or a text in it that is not UTF-8.
absl::Status ParseMessage(const grpc::ByteBuffer& bytes, google::protobuf::Message& message);
grpc::ByteBuffer SerializeMessage(const google::protobuf::Message& message);

// The caller's id, where it is a valid one, or a made-up one of 32 hexadecimal digits.
std::string RequestIdOrNew(const std::string& asked);
uint64_t RandomSeed();

// grpc-retry-pushback-ms, where the error says when to come back.
void AddErrorTrailers(const absl::Status& status, grpc::ServerContextBase& context);

// Of an answer whose first bytes these are: as initial metadata, or as a trailer where `status` may
// be tried again, because gRPC's own retries take back no call that has got initial metadata
// (gRFC A6: Trailers-Only).
void AddRequestId(const std::string& request_id,
                  const absl::Status& status,
                  grpc::ServerContextBase& context);

// Who calls, for fairness: the token's name where there is one, or else the address without the
// port, as in "ipv4:192.0.2.1".
std::string CallerOf(const std::string& token_name, const grpc::ServerContextBase& context);

}  // namespace phi::service
