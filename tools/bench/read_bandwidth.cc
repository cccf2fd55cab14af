#include "tools/bench/read_bandwidth.h"

#include <immintrin.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include "kernels/base/check.h"
#include "tools/bench/timing.h"

namespace phi::bench {
namespace {

std::atomic<int> g_sink;  // keeps the compiler from dropping the reads

// Reads kStreams runs of `bytes` bytes each, one after the other in memory, a line of each in turn.
template <int kStreams>
__attribute__((target("avx2"))) void Read(const std::byte* data, size_t bytes, int prefetch) {
  __m256i sums[kStreams] = {};
  for (size_t i = 0; i < bytes; i += 64) {
    for (int s = 0; s < kStreams; ++s) {
      const std::byte* line = data + static_cast<size_t>(s) * bytes + i;
      if (prefetch > 0) _mm_prefetch(reinterpret_cast<const char*>(line + prefetch), _MM_HINT_T0);
      sums[s] =
          _mm256_xor_si256(sums[s], _mm256_load_si256(reinterpret_cast<const __m256i*>(line)));
      sums[s] =
          _mm256_xor_si256(sums[s], _mm256_load_si256(reinterpret_cast<const __m256i*>(line + 32)));
    }
  }
  for (int s = 1; s < kStreams; ++s) sums[0] = _mm256_xor_si256(sums[0], sums[s]);
  g_sink += _mm256_extract_epi32(sums[0], 0);
}

void ReadWith(int streams, const std::byte* data, size_t bytes, int prefetch) {
  const size_t each = bytes / static_cast<size_t>(streams) / 64 * 64;
  switch (streams) {
    case 1:
      return Read<1>(data, each, prefetch);
    case 2:
      return Read<2>(data, each, prefetch);
    case 4:
      return Read<4>(data, each, prefetch);
    default:
      return Read<8>(data, each, prefetch);
  }
}

// Bytes of memory in small or huge pages, written once so that they exist.
class Pages {
 public:
  Pages(size_t bytes, bool huge) : bytes_(bytes) {
    data_ = static_cast<std::byte*>(
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    PHI_CHECK(data_ != MAP_FAILED, "no memory for %zu bytes", bytes);
    madvise(data_, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    std::memset(data_, 1, bytes);
  }
  ~Pages() { munmap(data_, bytes_); }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  const std::byte* data() const { return data_; }

 private:
  std::byte* data_;
  size_t bytes_;
};

}  // namespace

std::vector<ReadVariant> MeasureReads(kernels::ThreadPool& pool, size_t bytes, int repeats) {
  std::vector<ReadVariant> variants;
  const size_t per_thread = bytes / static_cast<size_t>(pool.num_threads()) / 4096 * 4096;
  for (const bool huge_pages : {false, true}) {
    // Prefetches run past the end of what is read.
    const Pages pages(per_thread * static_cast<size_t>(pool.num_threads()) + 65536, huge_pages);
    for (const int streams : {1, 2, 4, 8}) {
      for (const int prefetch : {0, 1024, 2048, 4096}) {
        double best = 1e9;
        for (int i = 0; i < repeats; ++i) {
          best = std::min(best, Seconds([&] {
                            pool.Run([&](int thread) {
                              const size_t start = per_thread * static_cast<size_t>(thread);
                              ReadWith(streams, pages.data() + start, per_thread, prefetch);
                            });
                          }));
        }
        const double total = static_cast<double>(per_thread) * pool.num_threads();
        variants.push_back({streams, prefetch, huge_pages, total / best / 1e9});
      }
    }
  }
  return variants;
}

}  // namespace phi::bench
