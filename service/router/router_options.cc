#include "service/router/router_options.h"

#include <cstdio>

namespace phi::service {

std::variant<RouterOptions, ExitCode> ParseRouterOptions(int argc, const char* const* argv) {
  RouterOptions options;
  std::string replicas;
  RouterServerOptions& server = options.server;
  FlagParser flags(
      Program::kRouter,
      "phi-router",
      "The public endpoint of phi-serve: takes Generate calls and dispatches them to replicas.");
  flags.Bind("listen", &server.listen);
  flags.Bind("metrics_listen", &options.metrics_listen);
  flags.Bind("model", &options.model);
  flags.Bind("replicas", &replicas);
  flags.Bind("model_name", &options.model_name);
  flags.Bind("max_inflight_requests", &server.limits.max_inflight_requests);
  flags.Bind("max_time_limit", &server.limits.max_time_limit);
  flags.Bind("slow_reader_timeout", &server.limits.slow_reader_timeout);
  flags.Bind("tls_cert", &server.tls.cert);
  flags.Bind("tls_key", &server.tls.key);
  flags.Bind("tls_client_ca", &server.tls.peer_ca);
  flags.Bind("replica_tls_ca", &server.replica_tls_ca);
  flags.Bind("token_file", &server.token_file);
  flags.Bind("reflection", &server.reflection);
  flags.Bind("drain_timeout", &options.drain_timeout);
  flags.Bind("log_format", &options.log_format, {"text", "json"});
  flags.Bind("log_level", &options.log_level, {"debug", "info", "warning", "error"});
  if (const auto exit_code = flags.Parse(argc, argv)) return *exit_code;

  const auto usage_error = [](absl::string_view message) {
    std::fprintf(stderr, "phi-router: %s\n", std::string(message).c_str());
    return ExitCode::kUsage;
  };
  auto list = ParseReplicaList(replicas);
  if (!list.ok()) return usage_error(list.status().message());
  server.replicas = *std::move(list);
  if (const absl::Status tls = CheckServerTlsFlags(server.tls); !tls.ok())
    return usage_error(tls.message());
  if (!server.token_file.empty() && server.tls.cert.empty())
    return usage_error("--token_file needs --tls_cert: a token in the clear is everybody's");
  if (server.limits.max_inflight_requests == 0 ||
      server.limits.max_time_limit <= absl::ZeroDuration() ||
      server.limits.slow_reader_timeout <= absl::ZeroDuration()) {
    return usage_error(
        "--max_inflight_requests, --max_time_limit and --slow_reader_timeout must be above 0");
  }
  return options;
}

}  // namespace phi::service
