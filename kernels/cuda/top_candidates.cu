#include <algorithm>

#include "kernels/cuda/element.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/last_block.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/shared_memory.cuh"

// The highest logits of each row. A block takes a slice of a row and finds its candidates one after
// the other; the last block of the row to finish finds the row's among those of all slices, in the
// same way. Logits and ids are one integer, so that the order is one comparison.
namespace phi::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
// Columns of a slice: at least kMinSlice, and so many that no row has more than kMaxSlices.
constexpr int64_t kMinSlice = 2048;
constexpr int64_t kMaxSlices = 32;

// A candidate's key: the higher one comes first. Keys of one row differ, but for the last two.
constexpr uint64_t kNoKey = 0;
constexpr uint64_t kNotFinite = ~uint64_t{1};  // above all others

__device__ inline uint64_t KeyOf(float logit, int64_t id) {
  const uint32_t bits = __float_as_uint(logit + 0.0F);  // both zeros are one value
  if ((bits & 0x7f800000U) == 0x7f800000U) return kNotFinite;
  const uint32_t ascending = (bits >> 31) != 0 ? ~bits : bits | 0x80000000U;
  return uint64_t{ascending} << 32 | ~static_cast<uint32_t>(id);
}

__device__ inline Candidate CandidateOf(uint64_t key) {
  if (key == kNoKey) return {-INFINITY, -1};
  if (key == kNotFinite) return {__uint_as_float(0x7fc00000U), -1};
  const auto ascending = static_cast<uint32_t>(key >> 32);
  const uint32_t bits = (ascending >> 31) != 0 ? ascending & 0x7fffffffU : ~ascending;
  return {__uint_as_float(bits), static_cast<int32_t>(~static_cast<uint32_t>(key))};
}

struct TopArgs {
  LogitsRows rows;
  Candidate* out;     // [num_rows, count]
  uint64_t* scratch;  // [num_rows, slices, count] keys
  int32_t* tickets;   // [num_rows]
  int64_t slice;      // columns
  int64_t count;
};

// Shared memory of a block, for slices of so many columns and so many slices.
struct SharedLayout {
  __device__ SharedLayout(uint64_t* base, int64_t num_keys)
      : keys(base),
        warp_best(base + num_keys),
        is_last(reinterpret_cast<int*>(warp_best + 2 * kWarps)) {}
  __device__ __host__ static int64_t NumKeys(int64_t slice, int64_t slices, int64_t count) {
    return slice > slices * count ? slice : slices * count;
  }
  static size_t Bytes(int64_t num_keys) {
    return sizeof(uint64_t) * static_cast<size_t>(num_keys + 2 * kWarps + 1);
  }
  uint64_t* keys;       // [num_keys]
  uint64_t* warp_best;  // [2][kWarps]
  int* is_last;
};

__device__ inline uint64_t WarpMaximum(uint64_t value) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    const uint64_t other = __shfl_xor_sync(kAllLanes, value, offset);
    value = other > value ? other : value;
  }
  return value;
}

// The highest of shared.keys[0 .. num_keys - 1] below `limit`, on all threads. Calls alternate
// between the two rows of warp_best, so that one barrier is enough.
__device__ inline uint64_t HighestBelow(const SharedLayout& shared,
                                        int64_t num_keys,
                                        uint64_t limit,
                                        int64_t call) {
  uint64_t best = kNoKey;
  for (int64_t i = threadIdx.x; i < num_keys; i += kThreads) {
    const uint64_t key = shared.keys[i];
    if (key < limit && key > best) best = key;
  }
  best = WarpMaximum(best);
  uint64_t* warp_best = shared.warp_best + call % 2 * kWarps;
  if (threadIdx.x % kWarp == 0) warp_best[threadIdx.x / kWarp] = best;
  __syncthreads();
  best = warp_best[0];
#pragma unroll
  for (int warp = 1; warp < kWarps; ++warp) {
    best = warp_best[warp] > best ? warp_best[warp] : best;
  }
  return best;
}

// Calls emit(i, key) for the i-th of the first `count` of `num_keys` keys, on one thread. All
// threads call it, after a barrier.
template <typename Emit>
__device__ void SelectHighest(const SharedLayout& shared,
                              int64_t num_keys,
                              int64_t count,
                              const Emit& emit) {
  uint64_t limit = ~uint64_t{0};
  for (int64_t i = 0; i < count; ++i) {
    limit = HighestBelow(shared, num_keys, limit, i);
    if (threadIdx.x == 0) emit(i, limit);
  }
}

// Grid (slices, rows).
__global__ void __launch_bounds__(kThreads) TopCandidatesKernel(TopArgs args) {
  const int64_t slices = gridDim.x;
  const int64_t row = blockIdx.y;
  const SharedLayout shared(SharedMemory<uint64_t>(),
                            SharedLayout::NumKeys(args.slice, slices, args.count));
  const int64_t begin = int64_t{blockIdx.x} * args.slice;
  const int64_t left = args.rows.num_cols - begin;
  const int64_t size = left < args.slice ? left : args.slice;
  const float* logits = args.rows.logits + row * args.rows.num_cols;
  for (int64_t i = threadIdx.x; i < size; i += kThreads) {
    const int64_t col = begin + i;
    const uint64_t key = KeyOf(logits[col], args.rows.first_id + col);
    // Padding is no candidate, but shows what is wrong with the row.
    shared.keys[i] = col < args.rows.num_real || key == kNotFinite ? key : kNoKey;
  }
  __syncthreads();

  uint64_t* scratch = args.scratch + row * slices * args.count;
  uint64_t* mine = scratch + int64_t{blockIdx.x} * args.count;
  SelectHighest(shared, size, args.count, [&](int64_t i, uint64_t key) { mine[i] = key; });
  if (!IsLastBlock(args.tickets + row, shared.is_last)) return;
  for (int64_t i = threadIdx.x; i < slices * args.count; i += kThreads) shared.keys[i] = scratch[i];
  __syncthreads();
  Candidate* out = args.out + row * args.count;
  SelectHighest(shared, slices * args.count, args.count, [&](int64_t i, uint64_t key) {
    out[i] = CandidateOf(key);
  });
}

}  // namespace

cudaError_t TopCandidates(const KernelContext& context,
                          const LogitsRows& rows,
                          int64_t count,
                          Candidate* out) {
  const int64_t slice = std::max(kMinSlice, (rows.num_cols + kMaxSlices - 1) / kMaxSlices);
  const int64_t slices = std::max<int64_t>(1, (rows.num_cols + slice - 1) / slice);
  const int64_t row_bytes = slices * count * static_cast<int64_t>(sizeof(uint64_t));
  const int64_t most = std::min(kSplitScratchBytes / row_bytes, kMaxSplitTickets);
  const size_t shared_bytes = SharedLayout::Bytes(SharedLayout::NumKeys(slice, slices, count));
  cudaError_t error = AllowSharedBytes(TopCandidatesKernel, shared_bytes);
  for (int64_t row = 0; row < rows.num_rows && error == cudaSuccess; row += most) {
    LogitsRows some = rows;
    some.logits += row * rows.num_cols;
    some.num_rows = std::min(most, rows.num_rows - row);
    error =
        Launch({.name = "TopCandidatesKernel",
                .grid = dim3(static_cast<unsigned>(slices), static_cast<unsigned>(some.num_rows)),
                .block = dim3(kThreads),
                .shared_bytes = shared_bytes,
                .stream = context.stream},
               TopCandidatesKernel,
               TopArgs{some,
                       out + row * count,
                       reinterpret_cast<uint64_t*>(context.split_scratch),
                       context.split_tickets,
                       slice,
                       count});
  }
  return error;
}

}  // namespace phi::kernels::cuda
