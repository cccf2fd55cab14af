#include "tools/phictl/client.h"

#include <cstdio>

#include "service/api/error.h"
#include "service/api/exit_code.h"
#include "service/api/grpc_status.h"

namespace phi::phictl {

using service::ExitCode;

std::shared_ptr<grpc::Channel> Connect(const Connection& connection,
                                       const grpc::ChannelArguments& arguments) {
  return grpc::CreateCustomChannel(
      connection.address, grpc::InsecureChannelCredentials(), arguments);
}

std::unique_ptr<grpc::ClientContext> NewContext(const Connection& connection) {
  auto context = std::make_unique<grpc::ClientContext>();
  context->set_deadline(absl::ToChronoTime(absl::Now() + connection.timeout));
  return context;
}

int ReportError(const grpc::Status& status, const Connection& connection) {
  const auto details = service::GetErrorDetails(service::FromGrpcStatus(status));
  if (!details.has_value() && status.error_code() == grpc::StatusCode::UNAVAILABLE) {
    std::fprintf(stderr,
                 "phictl: nothing answers at %s. Start a server with tools/quickstart.sh --keep, "
                 "or name another "
                 "place with --address.\n",
                 connection.address.c_str());
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
