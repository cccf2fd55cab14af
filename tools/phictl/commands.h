#pragma once

#include <CLI/CLI.hpp>
#include <functional>

#include "tools/phictl/client.h"

// phictl's commands. Each adds its flags to `app` and says what to run when it was the one asked
// for; that returns the exit code.
namespace phi::phictl {

using Command = std::function<int(const Connection&)>;

Command AddGenerate(CLI::App& app);
Command AddTokenize(CLI::App& app);
Command AddInfo(CLI::App& app);
Command AddHealth(CLI::App& app);
Command AddBench(CLI::App& app);

// The positional text, or standard input where it is "-" or missing. False, with the reason said on
// stderr, when there is none: a terminal is not read from unasked.
bool ReadText(const std::string& argument, std::string& text);

}  // namespace phi::phictl
