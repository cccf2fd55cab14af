#pragma once

#include <cstdio>
#include <exception>

#include "service/api/exit_code.h"

namespace phi::tools {

// What `run` returns, or 70 behind one line on stderr if it throws. Our own code throws nothing;
// CLI11 and the standard library do.
inline int RunMain(const char* program, int (*run)(int, char**), int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", program, error.what());
    return static_cast<int>(service::ExitCode::kInternal);
  }
}

}  // namespace phi::tools
