#pragma once

#include <cstddef>
#include <vector>

#include "kernels/cpu/thread_pool.h"

namespace phi::bench {

// One way to read a lot of memory once, and how fast it was.
struct ReadVariant {
  int streams = 1;         // places that a thread reads from in turn
  int prefetch_bytes = 0;  // ahead of the reads; 0 = none
  bool huge_pages = false;
  double gigabytes_per_second = 0;  // all threads together
};

// Measures 1, 2, 4 and 8 streams with and without software prefetch and huge pages: what memory
// gives depends on all three, and a share of bandwidth means something only against the best of
// them. `bytes` should exceed the last level of cache by far. Each variant counts with the best of
// `repeats` runs.
std::vector<ReadVariant> MeasureReads(kernels::ThreadPool& pool, size_t bytes, int repeats);

}  // namespace phi::bench
