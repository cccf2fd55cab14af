#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "service/api/exit_code.h"

// The flags of every server program: their names, defaults and meanings in one table, from which
// the command lines are read and docs/api.md's table is written.
namespace phi::service {

enum class Program : uint8_t { kRouter = 1, kWorker = 2 };

struct FlagRow {
  std::string_view name;   // without the dashes
  uint8_t programs = 0;    // which programs have it: sum of Program values
  std::string_view value;  // what stands for its value in --help: "HOST:PORT"; "BOOL" for switches
  std::string_view default_value;  // as one would type it; kRequired: none
  std::string_view meaning;        // one line
};

// The default of a flag that has to be given.
inline constexpr std::string_view kRequired = "(required)";

std::span<const FlagRow> FlagTable();

// Reads one program's command line into plain variables.
//
//   FlagParser flags(Program::kRouter, "phi-router", "Public endpoint of phi-serve.");
//   flags.Bind("listen", &options.listen);
//   if (const auto exit_code = flags.Parse(argc, argv)) return static_cast<int>(*exit_code);
//
// Values: durations as "10s" or "1m30s", byte counts as "0" or "512MiB", booleans as true|false.
class FlagParser {
 public:
  using Target = std::variant<std::string*, int*, uint32_t*, uint64_t*, bool*, absl::Duration*>;

  FlagParser(Program program, std::string name, std::string description);

  // `target` outlives Parse and is always set by it: to the default where the flag is absent.
  // Aborts for a name that the table does not give this program. uint64_t is for byte counts.
  // `choices`: the only values taken, of a text.
  void Bind(std::string_view name, Target target, std::vector<std::string> choices = {});

  // Nothing when the program shall go on; an exit code after --help, --version (kOk) or an error
  // (kUsage, said on stderr in one line). Aborts when a flag of the table was not bound, so that
  // none is accepted in vain.
  std::optional<ExitCode> Parse(int argc, const char* const* argv);

 private:
  struct Binding {
    const FlagRow* row = nullptr;
    Target target;
    std::vector<std::string> choices;
  };
  Program program_;
  std::string name_;
  std::string description_;
  std::vector<Binding> bindings_;
};

}  // namespace phi::service
