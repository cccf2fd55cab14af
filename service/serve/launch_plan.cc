#include "service/serve/launch_plan.h"

#include <charconv>
#include <string_view>
#include <utility>

#include "kernels/base/status_macros.h"
#include "service/api/flags.h"

namespace phi::service {
namespace {

struct Flag {
  std::string name;
  std::string value;
  uint8_t programs = 0;
};

// Which programs have the flag; 0 for none. What phi-serve decides itself is no flag of it: where
// the worker is, and that what goes between the two over loopback goes in the clear.
uint8_t ProgramsOf(std::string_view name) {
  if (name == "replicas" || name == "replica_tls_ca") return 0;
  if (name.starts_with("tls_")) return static_cast<uint8_t>(Program::kRouter);
  uint8_t programs = 0;
  for (const FlagRow& row : FlagTable()) {
    if (row.name == name) programs |= row.programs;
  }
  return programs;
}

bool IsSwitch(std::string_view name) {
  for (const FlagRow& row : FlagTable()) {
    if (row.name == name) return row.value == "BOOL";
  }
  return false;
}

absl::StatusOr<std::vector<Flag>> ReadFlags(const std::vector<std::string>& args) {
  std::vector<Flag> flags;
  for (size_t i = 0; i < args.size(); ++i) {
    const std::string_view arg = args[i];
    const size_t equals = arg.find('=');
    const std::string name(arg.substr(0, equals).substr(arg.substr(0, 2) == "--" ? 2 : 0));
    const uint8_t programs = arg.substr(0, 2) == "--" ? ProgramsOf(name) : 0;
    if (programs == 0)
      return absl::InvalidArgumentError("'" + args[i] + "' is no flag of phi-serve");
    if (equals != std::string_view::npos) {
      flags.push_back({name, args[i].substr(equals + 1), programs});
    } else if (IsSwitch(name)) {
      flags.push_back({name, "true", programs});
    } else if (i + 1 < args.size()) {
      flags.push_back({name, args[++i], programs});
    } else {
      return absl::InvalidArgumentError("--" + name + " needs a value");
    }
  }
  return flags;
}

struct Address {
  std::string host;
  int port = 0;
  std::string Text() const { return host + ":" + std::to_string(port); }
};

absl::StatusOr<Address> ReadAddress(const std::string& name, const std::string& text) {
  const size_t colon = text.rfind(':');
  int port = -1;
  if (colon != std::string::npos && colon > 0) {
    const char* end = text.data() + text.size();
    const auto [parsed, error] = std::from_chars(text.data() + colon + 1, end, port);
    if (error != std::errc() || parsed != end) port = -1;
  }
  if (port < 0 || port > 65535)
    return absl::InvalidArgumentError("--" + name + " takes HOST:PORT, not '" + text + "'");
  return Address{.host = text.substr(0, colon), .port = port};
}

std::string DefaultOf(std::string_view name) {
  for (const FlagRow& row : FlagTable()) {
    if (row.name == name && (row.programs & static_cast<uint8_t>(Program::kRouter)) != 0) {
      return std::string(row.default_value);
    }
  }
  return "";
}

}  // namespace

absl::StatusOr<LaunchPlan> MakeLaunchPlan(const std::vector<std::string>& args,
                                          const std::function<int()>& free_port) {
  LaunchPlan plan;
  for (const std::string& arg : args) {
    plan.help |= arg == "--help" || arg == "-h";
    plan.version |= arg == "--version";
  }
  if (plan.help || plan.version) return plan;
  PHI_ASSIGN_OR_RETURN(const std::vector<Flag> flags, ReadFlags(args));
  std::string listen = DefaultOf("listen");
  std::string metrics_listen = DefaultOf("metrics_listen");
  bool has_model = false;
  for (const Flag& flag : flags) {
    has_model |= flag.name == "model";
    plan.tls |= flag.name == "tls_cert";
    if (flag.name == "listen") {
      listen = flag.value;
    } else if (flag.name == "metrics_listen") {
      metrics_listen = flag.value;
    } else {
      std::string text("--");
      text.append(flag.name).append("=").append(flag.value);
      if ((flag.programs & static_cast<uint8_t>(Program::kRouter)) != 0)
        plan.router_args.push_back(text);
      if ((flag.programs & static_cast<uint8_t>(Program::kWorker)) != 0)
        plan.worker_args.push_back(text);
    }
  }
  if (!has_model)
    return absl::InvalidArgumentError(
        "--model is required: the directory of a model, such as deploy/models/phi-nano");
  PHI_ASSIGN_OR_RETURN(Address address, ReadAddress("listen", listen));
  PHI_ASSIGN_OR_RETURN(Address metrics, ReadAddress("metrics_listen", metrics_listen));
  if (address.port == 0) address.port = free_port();
  const bool any_metrics_port = metrics.port == 0;
  if (any_metrics_port) metrics.port = free_port();
  Address worker_metrics = metrics;
  worker_metrics.port = any_metrics_port ? free_port() : metrics.port + 1;
  const std::string worker = "127.0.0.1:" + std::to_string(free_port());
  plan.listen = address.Text();
  plan.router_metrics = metrics.Text();
  plan.worker_metrics = worker_metrics.Text();
  plan.router_args.insert(plan.router_args.end(),
                          {"--listen=" + plan.listen,
                           "--replicas=" + worker,
                           "--metrics_listen=" + plan.router_metrics});
  plan.worker_args.insert(plan.worker_args.end(),
                          {"--listen=" + worker, "--metrics_listen=" + plan.worker_metrics});
  return plan;
}

}  // namespace phi::service
