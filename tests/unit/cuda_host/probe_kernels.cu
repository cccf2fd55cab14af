#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/shared_memory.cuh"
#include "tests/unit/cuda_host/probe_kernels.h"

namespace phi::cuda_host {
namespace {

using kernels::cuda::Launch;
using kernels::cuda::SharedMemory;
namespace ptx = kernels::cuda::ptx;

constexpr unsigned kAllLanes = 0xffffffffU;

__device__ float WarpSum(float value) {
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(kAllLanes, value, step);
  return value;
}

__device__ void Misbehave(Bug bug, float* shared, int warps, float* out) {
  const unsigned lane = threadIdx.x % 32;
  if (bug == Bug::kDivergentBarrier) {
    if (threadIdx.x % 2 == 0) {
      __syncthreads();
    } else {
      __syncthreads();
    }
  }
  if (bug == Bug::kWrongMask && lane == 7) __shfl_sync(0x0000000fU, 1, 0);
  if (bug == Bug::kDifferentMasks) __shfl_sync(lane == 4 ? 0x000000ffU : kAllLanes, 1, 0);
  if (bug == Bug::kReadsOutsideMask && lane < 8) __shfl_sync(0x000000ffU, 1, 9);
  if (bug == Bug::kSharedOutOfBounds && threadIdx.x == 0) shared[warps] = 1;
  if (bug == Bug::kGlobalOutOfBounds && threadIdx.x == 0) out[1] = 1;
}

__global__ void SumKernel(Bug bug, const float* in, float* out) {
  float* const parts = SharedMemory<float>();
  const auto warps = static_cast<int>(blockDim.x / 32);
  const unsigned lane = threadIdx.x % 32;
  if (bug == Bug::kExitedLane && lane == 5) return;
  Misbehave(bug, parts, warps, out);
  const float part = WarpSum(in[threadIdx.x]);
  if (lane == 0) parts[threadIdx.x / 32] = part;
  if (bug == Bug::kExitedThread && threadIdx.x == 3) return;
  if (bug != Bug::kMissingBarrier) __syncthreads();
  if (threadIdx.x != 0) return;
  float sum = 0;
  for (int warp = 0; warp < warps; ++warp) sum += parts[warp];
  *out = sum;
}

// Thread t copies four floats, and passes on those of thread t + 1 (cyclically).
__global__ void CopyKernel(Bug bug, const float* in, int count, float* out) {
  auto* const tile = SharedMemory<float>();
  const auto threads = static_cast<int>(blockDim.x);
  const auto self = static_cast<int>(threadIdx.x);
  if (bug == Bug::kMisalignedLoad) ptx::LoadStreaming16(in + 1);
  if (bug == Bug::kLoadOutOfBounds) ptx::LoadGlobal16(in + count);
  if (bug == Bug::kMisalignedAccess) {
    reinterpret_cast<float4*>(out)[0] = *reinterpret_cast<const float4*>(in + 1);
  }
  ptx::CopyAsync16OrZero(tile + 4 * self, in + 4 * self, true);
  ptx::CopyAsyncCommit();
  if (bug == Bug::kUnfinishedCopy) return;
  // An empty group behind it: waiting for all but one still waits for the copy.
  ptx::CopyAsyncCommit();
  if (bug != Bug::kMissingCopyWait) ptx::CopyAsyncWait<1>();
  if (bug != Bug::kMissingCopyBarrier) __syncthreads();
  const int next = (self + 1) % threads;
  for (int i = 0; i < 4; ++i) out[4 * next + i] = tile[4 * next + i];
  if (bug == Bug::kMissingCopyWait) ptx::CopyAsyncWait<0>();
}

__global__ void CountKernel(bool atomic, int* out) {
  if (atomic) {
    atomicAdd(&out[threadIdx.x], 1);
  } else {
    out[threadIdx.x] += 1;
  }
}

__global__ void WarpKernel(int* out) {
  const auto lane = static_cast<int>(threadIdx.x);
  int* const mine = out + lane * kWarpResults;
  mine[0] = __shfl_sync(kAllLanes, lane, 3);
  mine[1] = __shfl_up_sync(kAllLanes, lane, 2);
  mine[2] = __shfl_down_sync(kAllLanes, lane, 4, 16);
  mine[3] = __shfl_xor_sync(kAllLanes, lane, 1);
  mine[4] = static_cast<int>(__ballot_sync(kAllLanes, lane % 3 == 0));
  mine[5] = __any_sync(kAllLanes, lane == 31) + 2 * __all_sync(kAllLanes, lane < 31);
  mine[6] = __reduce_add_sync(kAllLanes, lane) + __reduce_max_sync(kAllLanes, lane);
  // The two halves of a warp go separate ways, each with its own mask.
  if (lane < 16) {
    mine[7] = __shfl_sync(0x0000ffffU, lane, 15);
  } else {
    mine[7] = __shfl_sync(0xffff0000U, lane, 16);
  }
  __syncwarp();
}

__device__ uint32_t Pair(uint16_t low, uint16_t high) {
  return static_cast<uint32_t>(low) | static_cast<uint32_t>(high) << 16;
}

template <typename T>
__global__ void MmaKernel(const uint16_t* a, const uint16_t* b, float* d) {
  const unsigned g = threadIdx.x / 4;
  const unsigned t = threadIdx.x % 4 * 2;
  const auto from_a = [=](unsigned row, unsigned col) {
    return Pair(a[row * 16 + col], a[row * 16 + col + 1]);
  };
  const auto from_b = [=](unsigned row) { return Pair(b[row * 8 + g], b[(row + 1) * 8 + g]); };
  const uint32_t fragment_a[4] = {
      from_a(g, t), from_a(g + 8, t), from_a(g, t + 8), from_a(g + 8, t + 8)};
  const uint32_t fragment_b[2] = {from_b(t), from_b(t + 8)};
  float* const rows[2] = {d + g * 8 + t, d + (g + 8) * 8 + t};
  float sums[4] = {rows[0][0], rows[0][1], rows[1][0], rows[1][1]};
  ptx::MmaM16N8K16<T>(sums, fragment_a, fragment_b);
  for (int i = 0; i < 4; ++i) rows[i / 2][i % 2] = sums[i];
}

__global__ void FillKernel(FillTarget target) {
  for (int i = static_cast<int>(threadIdx.x); i < target.count; i += static_cast<int>(blockDim.x)) {
    target.out[i] = target.value;
  }
}

}  // namespace

cudaError_t LaunchSum(Bug bug, const float* in, int count, float* out, cudaStream_t stream) {
  const auto threads = static_cast<unsigned>(count);
  return Launch({.name = "SumKernel",
                 .grid = {1, 1, 1},
                 .block = {threads, 1, 1},
                 .shared_bytes = threads / 32 * sizeof(float),
                 .stream = stream},
                &SumKernel,
                bug,
                in,
                out);
}

cudaError_t LaunchCopy(Bug bug, const float* in, int count, float* out, cudaStream_t stream) {
  const auto floats = static_cast<unsigned>(count);
  return Launch({.name = "CopyKernel",
                 .grid = {1, 1, 1},
                 .block = {floats / 4, 1, 1},
                 .shared_bytes = floats * sizeof(float),
                 .stream = stream},
                &CopyKernel,
                bug,
                in,
                count,
                out);
}

cudaError_t LaunchCount(bool atomic, int blocks, int* out, cudaStream_t stream) {
  return Launch({.name = "CountKernel",
                 .grid = {static_cast<unsigned>(blocks), 1, 1},
                 .block = {32, 1, 1},
                 .stream = stream},
                &CountKernel,
                atomic,
                out);
}

cudaError_t LaunchWarpOperations(int* out, cudaStream_t stream) {
  return Launch({.name = "WarpKernel", .grid = {1, 1, 1}, .block = {32, 1, 1}, .stream = stream},
                &WarpKernel,
                out);
}

cudaError_t LaunchMma(
    bool bfloat16, const uint16_t* a, const uint16_t* b, float* d, cudaStream_t stream) {
  return Launch({.name = "MmaKernel", .grid = {1, 1, 1}, .block = {32, 1, 1}, .stream = stream},
                bfloat16 ? &MmaKernel<__nv_bfloat16> : &MmaKernel<__half>,
                a,
                b,
                d);
}

cudaError_t LaunchFill(const FillTarget& target, const FillShape& shape, cudaStream_t stream) {
  if (shape.allow_shared_bytes != 0) {
    const cudaError_t error = cudaFuncSetAttribute(reinterpret_cast<const void*>(&FillKernel),
                                                   cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                   shape.allow_shared_bytes);
    if (error != cudaSuccess) return error;
  }
  return Launch({.name = "FillKernel",
                 .grid = {1, shape.blocks_y, 1},
                 .block = {shape.threads, 1, 1},
                 .shared_bytes = shape.shared_bytes,
                 .stream = stream},
                &FillKernel,
                target);
}

}  // namespace phi::cuda_host
