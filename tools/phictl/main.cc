#include <cstdio>
#include <map>
#include <string>

#include "service/access/openssl_cleanup.h"
#include "service/api/deadlock_detection.h"
#include "service/api/exit_code.h"
#include "tools/phictl/commands.h"
#include "tools/run_main.h"

namespace phi::phictl {
namespace {

int Main(int argc, char** argv) {
  CLI::App app("Talks to a phi-serve router.", "phictl");
  app.set_version_flag("--version", "phictl " PHI_VERSION);
  app.require_subcommand(1);
  app.fallthrough();
  app.footer(
      "Examples:\n"
      "  phictl generate 'def print_prime(n):'\n"
      "  phictl generate - --max-new-tokens 100 --stop-condition top_level < half_a_function.py\n"
      "  phictl info --address router.example:50051");
  Connection connection;
  const auto read_connection = AddConnectionFlags(app, connection);
  const std::map<std::string, Command> commands = {{"generate", AddGenerate(app)},
                                                   {"tokenize", AddTokenize(app)},
                                                   {"info", AddInfo(app)},
                                                   {"health", AddHealth(app)},
                                                   {"bench", AddBench(app)}};
  const auto usage_error = [](const std::string& message) {
    std::fprintf(stderr, "phictl: %s (see phictl --help)\n", message.c_str());
    return static_cast<int>(service::ExitCode::kUsage);
  };
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return error.get_exit_code() == 0 ? app.exit(error) : usage_error(error.what());
  }
  if (const absl::Status status = read_connection(); !status.ok())
    return usage_error(std::string(status.message()));
  return commands.at(app.get_subcommands().front()->get_name())(connection);
}

}  // namespace
}  // namespace phi::phictl

int main(int argc, char** argv) {
  phi::service::SkipDeadlockDetectionInRelease();
  phi::service::SkipOpenSslCleanup();
  return phi::tools::RunMain("phictl", phi::phictl::Main, argc, argv);
}
