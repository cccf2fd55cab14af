#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/time/time.h"

namespace phi::phictl {

// How to reach the router.
struct Connection {
  std::string address = "127.0.0.1:50051";
  absl::Duration timeout = absl::Minutes(10);
};

// Without arguments of its own, a channel shares its connection with others to the same place.
std::shared_ptr<grpc::Channel> Connect(const Connection& connection,
                                       const grpc::ChannelArguments& arguments = {});

// A context whose deadline is the connection's timeout from now.
std::unique_ptr<grpc::ClientContext> NewContext(const Connection& connection);

// Says on stderr, in one line, what went wrong and the way out; returns the program's exit code.
// `status` is not OK.
int ReportError(const grpc::Status& status, const Connection& connection);

}  // namespace phi::phictl
