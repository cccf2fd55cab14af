#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

// Kernels to try the harness with: right ones, and the same with a bug in them.
namespace phi::cuda_host {

enum class Bug : uint8_t {
  kNone,
  kMissingBarrier,      // reads another warp's part of the sum without one
  kDivergentBarrier,    // half of the threads come to another __syncthreads
  kExitedThread,        // thread 3 returns before a barrier
  kExitedLane,          // lane 5 returns before a shuffle
  kWrongMask,           // a lane shuffles with a mask that lacks it
  kDifferentMasks,      // two lanes disagree on the mask
  kReadsOutsideMask,    // the shuffle's source lane is not in the mask
  kSharedOutOfBounds,   // writes one float behind the dynamic shared memory
  kGlobalOutOfBounds,   // writes one float behind the output
  kMissingCopyWait,     // reads what cp.async brings without waiting for it
  kMissingCopyBarrier,  // reads another thread's copy after its own wait only
  kMisalignedLoad,      // a 16-byte load from an address of 4 modulo 16
  kMisalignedAccess,    // the same by a float4 pointer, without a wrapper
  kLoadOutOfBounds,     // a 16-byte load behind the input
  kUnfinishedCopy,      // returns with a copy under way
};

// out[0] = sum of in[0 .. count), one block of count threads; count is a multiple of 32.
cudaError_t LaunchSum(Bug bug, const float* in, int count, float* out, cudaStream_t stream);

// out[i] = in[i], through shared memory by cp.async and 16-byte loads; one block of count / 4
// threads.
cudaError_t LaunchCopy(Bug bug, const float* in, int count, float* out, cudaStream_t stream);

// out[i] += 1 by `blocks` blocks of 32 threads, by atomicAdd or without (a race).
cudaError_t LaunchCount(bool atomic, int blocks, int* out, cudaStream_t stream);

// What each warp operation gives: out [32 lanes][kWarpResults].
inline constexpr int kWarpResults = 8;
cudaError_t LaunchWarpOperations(int* out, cudaStream_t stream);

// d [16, 8] += a [16, 16] · b [16, 8], all row-major, bfloat16 bits or half bits; by one mma.
cudaError_t LaunchMma(
    bool bfloat16, const uint16_t* a, const uint16_t* b, float* d, cudaStream_t stream);

// out[i] = value for i < count. `threads`, `shared_bytes` and `blocks` as they are, to try limits.
struct FillShape {
  unsigned blocks_y = 1;
  unsigned threads = 64;
  size_t shared_bytes = 0;
  int allow_shared_bytes = 0;  // by cudaFuncSetAttribute before, where not 0
};
struct FillTarget {
  float* out;
  int count;
  float value;
};
cudaError_t LaunchFill(const FillTarget& target, const FillShape& shape, cudaStream_t stream);

}  // namespace phi::cuda_host
