#include "tools/phictl/client.h"

#include <cstdio>

#include "kernels/base/status_macros.h"
#include "service/access/small_file.h"
#include "service/api/error.h"
#include "service/api/exit_code.h"
#include "service/api/grpc_deadline.h"
#include "service/api/grpc_status.h"

namespace phi::phictl {

using service::ExitCode;

std::function<absl::Status()> AddConnectionFlags(CLI::App& app, Connection& connection) {
  struct Texts {
    std::string timeout = "10m";
    std::string tls_ca, tls_cert, tls_key, token_file;
  };
  auto texts = std::make_shared<Texts>();  // shared by the app's flags and the reader
  app.add_option("--address", connection.address, "The router's HOST:PORT")->capture_default_str();
  app.add_option("--timeout", texts->timeout, "Longest time to wait, such as 30s")
      ->capture_default_str();
  app.add_option("--tls-ca", texts->tls_ca, "PEM authorities of the router; speaks TLS");
  app.add_option("--tls-cert", texts->tls_cert, "PEM certificate to show (mTLS)");
  app.add_option("--tls-key", texts->tls_key, "PEM private key of --tls-cert");
  app.add_option("--token-file", texts->token_file, "File that holds the token; needs TLS");
  return [texts, &connection]() -> absl::Status {
    if (!absl::ParseDuration(texts->timeout, &connection.timeout) ||
        connection.timeout <= absl::ZeroDuration()) {
      return absl::InvalidArgumentError("--timeout takes a time such as 30s, not '" +
                                        texts->timeout + "'");
    }
    if (texts->tls_cert.empty() != texts->tls_key.empty())
      return absl::InvalidArgumentError("--tls-cert and --tls-key go together");
    const auto read = [](const char* flag, const std::string& path, std::string& text) {
      if (path.empty()) return absl::OkStatus();
      PHI_ASSIGN_OR_RETURN(text, service::ReadSmallFile(flag, path));
      return absl::OkStatus();
    };
    PHI_RETURN_IF_ERROR(read("--tls-ca", texts->tls_ca, connection.tls_ca));
    PHI_RETURN_IF_ERROR(read("--tls-cert", texts->tls_cert, connection.tls_cert));
    PHI_RETURN_IF_ERROR(read("--tls-key", texts->tls_key, connection.tls_key));
    PHI_RETURN_IF_ERROR(read("--token-file", texts->token_file, connection.token));
    // Editors end a file with a line feed.
    connection.token.resize(connection.token.find_last_not_of(" \r\n") + 1);
    if (!connection.token.empty() && !connection.tls())
      return absl::InvalidArgumentError("--token-file needs --tls-ca");
    return absl::OkStatus();
  };
}

std::shared_ptr<grpc::Channel> Connect(const Connection& connection,
                                       const grpc::ChannelArguments& arguments) {
  const auto credentials = connection.tls()
                               ? grpc::SslCredentials({.pem_root_certs = connection.tls_ca,
                                                       .pem_private_key = connection.tls_key,
                                                       .pem_cert_chain = connection.tls_cert})
                               : grpc::InsecureChannelCredentials();
  return grpc::CreateCustomChannel(connection.address, credentials, arguments);
}

std::unique_ptr<grpc::ClientContext> NewContext(const Connection& connection) {
  auto context = std::make_unique<grpc::ClientContext>();
  context->set_deadline(
      service::ToGrpcDeadline(service::After(service::SteadyNow(), connection.timeout)));
  if (!connection.token.empty())
    context->AddMetadata("authorization", "Bearer " + connection.token);
  return context;
}

int ReportError(const grpc::Status& status, const Connection& connection) {
  const auto details = service::GetErrorDetails(service::FromGrpcStatus(status));
  if (!details.has_value() && status.error_code() == grpc::StatusCode::UNAVAILABLE) {
    std::fprintf(stderr,
                 "phictl: nothing answers at %s. Start a server with tools/quickstart.sh --keep, "
                 "or name another "
                 "place with --address.%s\n",
                 connection.address.c_str(),
                 connection.tls()
                     ? " Or its certificate is not of --tls-ca, or asks for one of ours."
                     : " Or it speaks TLS: --tls-ca.");
    return static_cast<int>(ExitCode::kCannotBind);
  }
  if (!details.has_value()) {
    const bool timed_out = status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED;
    std::fprintf(stderr,
                 "phictl: %s\n",
                 timed_out ? "no answer in time; --timeout gives it longer"
                           : status.error_message().c_str());
    return static_cast<int>(ExitCode::kInternal);
  }
  const std::string reason(service::ErrorReasonInfo(details->reason).name);
  const std::string field = details->field.empty() ? "" : " " + details->field + ":";
  std::fprintf(
      stderr, "phictl:%s %s (%s)\n", field.c_str(), status.error_message().c_str(), reason.c_str());
  if (details->reason == service::ErrorReason::kNoReadyReplica) {
    std::fprintf(stderr,
                 "phictl: the router is up and waits for a replica; phictl info lists them\n");
  }
  const bool callers_fault = status.error_code() == grpc::StatusCode::INVALID_ARGUMENT ||
                             status.error_code() == grpc::StatusCode::NOT_FOUND;
  return static_cast<int>(callers_fault ? ExitCode::kUsage : ExitCode::kCannotBind);
}

}  // namespace phi::phictl
