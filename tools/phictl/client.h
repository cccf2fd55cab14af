#pragma once

#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace phi::phictl {

// How to reach the router.
struct Connection {
  std::string address = "127.0.0.1:50051";
  absl::Duration timeout = absl::Minutes(10);
  // PEM; with any of them TLS is spoken. No ca: the system's authorities.
  std::string tls_ca;
  std::string tls_cert;
  std::string tls_key;
  std::string token;

  bool tls() const { return !tls_ca.empty() || !tls_cert.empty(); }
};

// Adds the flags of a connection. What it returns reads the files that they name, once they are
// parsed; INVALID_ARGUMENT for what cannot be used.
std::function<absl::Status()> AddConnectionFlags(CLI::App& app, Connection& connection);

// Without arguments of its own, a channel shares its connection with others to the same place.
std::shared_ptr<grpc::Channel> Connect(const Connection& connection,
                                       const grpc::ChannelArguments& arguments = {});

// A context whose deadline is the connection's timeout from now, with its token.
std::unique_ptr<grpc::ClientContext> NewContext(const Connection& connection);

// Says on stderr, in one line, what went wrong and the way out; returns the program's exit code.
// `status` is not OK.
int ReportError(const grpc::Status& status, const Connection& connection);

}  // namespace phi::phictl
