#pragma once

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

// The only place where absl::Status and grpc::Status meet.
namespace phi::service {

// Carries ErrorDetails as google.rpc.Status (ErrorInfo with domain "phi-serve", BadRequest,
// RetryInfo).
grpc::Status ToGrpcStatus(const absl::Status& status);

// The reverse, as a client of our own services: details of domain "phi-serve" come back as
// payloads.
absl::Status FromGrpcStatus(const grpc::Status& status);

}  // namespace phi::service
