#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "service/api/flags.h"
#include "service/router/router_server.h"

namespace phi::service {

// The command line of phi-router.
struct RouterOptions {
  std::string model;
  std::string model_name;
  std::string metrics_listen;
  absl::Duration drain_timeout;
  std::string log_format;
  std::string log_level;
  RouterServerOptions server;
};

// An ExitCode when the program shall end now, as FlagParser::Parse says it; also for values that no
// flag's type refuses.
std::variant<RouterOptions, ExitCode> ParseRouterOptions(int argc, const char* const* argv);

}  // namespace phi::service
