#pragma once

#include <cstdio>
#include <cstdlib>

// Aborts with file, line and a printf-style message when our own code broke a contract. Never for
// external input: that is refused with a Status. Active in every build type.
//
//   PHI_CHECK(row < num_rows, "row %d of %d", row, num_rows);
#define PHI_CHECK(condition, ...)                                                        \
  do {                                                                                   \
    if (!(condition)) [[unlikely]] {                                                     \
      std::fprintf(stderr, "%s:%d: check failed: %s: ", __FILE__, __LINE__, #condition); \
      std::fprintf(stderr, __VA_ARGS__);                                                 \
      std::fputc('\n', stderr);                                                          \
      std::abort();                                                                      \
    }                                                                                    \
  } while (false)
