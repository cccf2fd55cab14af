#include <google/protobuf/util/json_util.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <iterator>
#include <memory>

#include "grpc/health/v1/health.grpc.pb.h"
#include "phi/v1/generation.grpc.pb.h"
#include "service/api/exit_code.h"
#include "tools/phictl/commands.h"

namespace phi::phictl {
namespace {

void PrintJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string text;
  (void)google::protobuf::util::MessageToJsonString(message, &text, options);
  std::printf("%s\n", text.c_str());
}

// A token's bytes so that every one shows: what is not printable ASCII as an escape.
std::string Escaped(const std::string& piece) {
  std::string shown;
  for (const char c : piece) {
    const auto byte = static_cast<unsigned char>(c);
    char escape[5];
    if (c == '\n') {
      shown += "\\n";
    } else if (c == '\t') {
      shown += "\\t";
    } else if (byte < 0x20 || byte > 0x7e) {
      std::snprintf(escape, sizeof(escape), "\\x%02x", static_cast<unsigned>(byte));
      shown += escape;
    } else {
      shown += c;
    }
  }
  return shown;
}

int RunTokenize(const std::string& argument, bool json, const Connection& connection) {
  phi::v1::TokenizeRequest request;
  if (!ReadText(argument, *request.mutable_text()))
    return static_cast<int>(service::ExitCode::kUsage);
  const auto stub = phi::v1::TextGeneration::NewStub(Connect(connection));
  const auto context = NewContext(connection);
  phi::v1::TokenizeResponse response;
  const grpc::Status status = stub->Tokenize(context.get(), request, &response);
  if (!status.ok()) return ReportError(status, connection);
  if (json) return PrintJson(response), 0;
  for (int i = 0; i < response.token_ids_size(); ++i) {
    std::printf("%6u  %s\n", response.token_ids(i), Escaped(response.pieces(i)).c_str());
  }
  std::fprintf(stderr, "%d tokens\n", response.token_ids_size());
  return 0;
}

void PrintInfo(const phi::v1::GetModelInfoResponse& info) {
  const auto& shape = info.architecture();
  std::printf(
      "model         %s (phi-serve %s)\n", info.model_name().c_str(), info.version().c_str());
  std::printf("fingerprint   %s\n", info.fingerprint().c_str());
  std::printf("shape         %u layers, hidden %u, MLP %u, %u heads of %u, vocabulary %u\n",
              shape.num_layers(),
              shape.hidden_size(),
              shape.intermediate_size(),
              shape.num_heads(),
              shape.head_dim(),
              info.vocabulary_tokens());
  std::printf("context       %u tokens\n", info.context_tokens());
  std::printf("dtype         %s\n",
              info.dtype().empty() ? "(no replica is ready)" : info.dtype().c_str());
  std::printf("replicas      %d\n", info.replicas_size());
  for (const auto& replica : info.replicas()) {
    std::printf("  %-22s %-10s epoch %llu, %u ranks, %s\n",
                replica.address().c_str(),
                replica.state().c_str(),
                static_cast<unsigned long long>(replica.epoch()),
                replica.world_size(),
                replica.isa().c_str());
  }
  std::printf("limits\n");
  for (const auto& limit : info.limits()) {
    std::printf("  %-34s %s%g ... %g",
                limit.field().c_str(),
                limit.min_exclusive() ? "above " : "",
                limit.min(),
                limit.max());
    if (limit.max_items() > 0) std::printf(", at most %u of them", limit.max_items());
    std::printf("\n");
  }
}

int RunInfo(bool json, const Connection& connection) {
  const auto stub = phi::v1::TextGeneration::NewStub(Connect(connection));
  const auto context = NewContext(connection);
  phi::v1::GetModelInfoResponse info;
  const grpc::Status status = stub->GetModelInfo(context.get(), {}, &info);
  if (!status.ok()) return ReportError(status, connection);
  if (json) {
    PrintJson(info);
  } else {
    PrintInfo(info);
  }
  return 0;
}

int RunHealth(const Connection& connection) {
  using grpc::health::v1::HealthCheckResponse;
  const auto stub = grpc::health::v1::Health::NewStub(Connect(connection));
  bool ready = false;
  for (const char* name : {"liveness", "readiness"}) {
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(name);
    HealthCheckResponse response;
    const auto context = NewContext(connection);
    const grpc::Status status = stub->Check(context.get(), request, &response);
    if (!status.ok()) return ReportError(status, connection);
    ready = response.status() == HealthCheckResponse::SERVING;
    std::printf(
        "%-10s %s\n", name, HealthCheckResponse::ServingStatus_Name(response.status()).c_str());
  }
  return ready ? 0 : static_cast<int>(service::ExitCode::kCannotBind);
}

}  // namespace

bool ReadText(const std::string& argument, std::string& text) {
  if (!argument.empty() && argument != "-") {
    text = argument;
    return true;
  }
  if (argument.empty() && isatty(STDIN_FILENO) == 1) {
    std::fprintf(stderr, "phictl: give a text, or - to type one and end it with Ctrl-D\n");
    return false;
  }
  text.assign(std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>());
  return true;
}

Command AddTokenize(CLI::App& app) {
  struct Args {
    std::string text;
    bool json = false;
  };
  auto args = std::make_shared<Args>();  // shared by the app's flags and the command
  CLI::App* command = app.add_subcommand("tokenize", "Shows a text's tokens");
  command->add_option("text", args->text, "The text; - or nothing reads standard input");
  command->add_flag("--json", args->json, "The response as JSON");
  return [args](const Connection& connection) {
    return RunTokenize(args->text, args->json, connection);
  };
}

Command AddInfo(CLI::App& app) {
  auto json = std::make_shared<bool>(false);  // shared by the app's flag and the command
  CLI::App* command = app.add_subcommand("info", "Shows the model, its limits and the replicas");
  command->add_flag("--json", *json, "The response as JSON");
  return [json](const Connection& connection) { return RunInfo(*json, connection); };
}

Command AddHealth(CLI::App& app) {
  app.add_subcommand("health", "Shows liveness and readiness; exits with 0 when ready");
  return RunHealth;
}

}  // namespace phi::phictl
