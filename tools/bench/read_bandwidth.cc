#include "tools/bench/read_bandwidth.h"

#include <immintrin.h>
#include <sys/mman.h>

#include <atomic>
#include <cstring>

#include "kernels/base/check.h"
#include "tools/bench/timing.h"

namespace phi::bench {
namespace {

// What a thread takes at a time; as in the products, a thread that is done helps the others.
constexpr size_t kChunkBytes = size_t{4} << 20;

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

}  // namespace

// Bytes of memory in small or huge pages, written once so that they exist.
class ReadBench::Pages {
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

std::vector<ReadVariant> ReadVariants() {
  std::vector<ReadVariant> variants;
  for (const bool huge_pages : {false, true}) {
    for (const int streams : {1, 2, 4, 8}) {
      for (const int prefetch : {0, 1024, 2048, 4096}) {
        variants.push_back({streams, prefetch, huge_pages});
      }
    }
  }
  return variants;
}

ReadBench::ReadBench(kernels::ThreadPool& pool, size_t bytes)
    : pool_(pool), chunks_(static_cast<int64_t>(bytes / kChunkBytes)) {
  // Prefetches run past the end of what is read.
  const size_t total = static_cast<size_t>(chunks_) * kChunkBytes + 65536;
  small_ = std::make_unique<Pages>(total, false);
  huge_ = std::make_unique<Pages>(total, true);
}

ReadBench::~ReadBench() = default;

double ReadBench::Measure(const ReadVariant& variant) {
  const std::byte* data = (variant.huge_pages ? huge_ : small_)->data();
  const double seconds = Seconds([&] {
    pool_.ForShares(chunks_, 1, [&](int64_t first, int64_t, int) {
      const std::byte* chunk = data + static_cast<size_t>(first) * kChunkBytes;
      ReadWith(variant.streams, chunk, kChunkBytes, variant.prefetch_bytes);
    });
  });
  return static_cast<double>(chunks_) * kChunkBytes / seconds / 1e9;
}

}  // namespace phi::bench
