#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace phi::service {

// The two command lines behind one of phi-serve's. Pure.
struct LaunchPlan {
  std::vector<std::string> router_args;  // without the program's name
  std::vector<std::string> worker_args;
  std::string listen;          // where callers connect
  std::string router_metrics;  // HOST:PORT
  std::string worker_metrics;
  bool help = false;  // --help or --version was asked for, and nothing else counts
  bool version = false;
  bool tls = false;  // the router's port speaks TLS
};

// Deals `args` out by the flag table: a flag goes to whichever program has it, or to both. --listen
// and --metrics_listen are the router's; the worker listens on loopback, and has the metrics port
// after the router's. `free_port` gives a port of 127.0.0.1 that nothing listens on, for the worker
// and wherever port 0 was asked for. INVALID_ARGUMENT naming what is no flag, or lacks its value.
absl::StatusOr<LaunchPlan> MakeLaunchPlan(const std::vector<std::string>& args,
                                          const std::function<int()>& free_port);

}  // namespace phi::service
