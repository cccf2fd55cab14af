#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/cpu/thread_pool.h"

namespace phi::bench {

// One way to read a lot of memory once.
struct ReadVariant {
  int streams = 1;         // places that a thread reads from in turn
  int prefetch_bytes = 0;  // ahead of the reads; 0 = none
  bool huge_pages = false;
};

// 1, 2, 4 and 8 streams with and without software prefetch and huge pages: what memory gives
// depends on all three, and a share of bandwidth means something only against the best of them.
std::vector<ReadVariant> ReadVariants();

// Memory to be read by all threads of a pool. `bytes` should exceed the last level of cache by far.
class ReadBench {
 public:
  ReadBench(kernels::ThreadPool& pool, size_t bytes);
  ~ReadBench();

  // One pass over the memory; gigabytes a second, all threads together.
  double Measure(const ReadVariant& variant);

 private:
  class Pages;

  kernels::ThreadPool& pool_;
  int64_t chunks_;
  std::unique_ptr<Pages> small_;
  std::unique_ptr<Pages> huge_;
};

}  // namespace phi::bench
