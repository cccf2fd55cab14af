#include "kernels/cuda/attention_row.cuh"
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/shared_memory.cuh"

namespace phi::kernels::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;
constexpr int kBlocksPerProcessor = 4;  // at least

// A warp a row and head; blocks of positions from 0 upwards, whatever the chunks of the prompt.
template <typename T, int kDims>
__global__ void __launch_bounds__(kThreads, kBlocksPerProcessor)
    RowAttentionKernel(AttentionArgs args, StepTables tables) {
  const int warp = static_cast<int>(threadIdx.x / kWarp);
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  const int64_t row = int64_t{blockIdx.x} * kWarps + warp;
  if (row >= tables.num_rows) return;
  const AttentionShape shape = args.shape;
  const KvLayout layout(shape);
  const int head = static_cast<int>(blockIdx.y);
  const int kv_head = head / (shape.num_heads / shape.num_key_value_heads);

  float* query = SharedMemory<float>() + warp * layout.padded_dim;
  const float* from = args.qkv + row * shape.qkv_cols() + head * shape.head_dim;
  const float scale = 1.0F / sqrtf(static_cast<float>(shape.head_dim));
  for (int d = lane; d < layout.padded_dim; d += kWarp) {
    query[d] = d < shape.head_dim ? from[d] * scale : 0.0F;
  }
  __syncwarp(kAllLanes);

  RowState<kDims> state;
  const int32_t* block_ids = tables.block_ids + tables.first_blocks[row];
  const T* keys = reinterpret_cast<const T*>(args.cache.keys) + kv_head * layout.head_elements;
  const T* values = reinterpret_cast<const T*>(args.cache.values) + kv_head * layout.head_elements;
  const int num_positions = tables.positions[row] + 1;
  for (int first = 0; first < num_positions; first += kKvBlockTokens) {
    const int64_t block = block_ids[first / kKvBlockTokens] * layout.block_elements;
    AttendBlock<T, kDims>(keys + block,
                          values + block,
                          min(kKvBlockTokens, num_positions - first),
                          query,
                          layout.padded_dim,
                          state);
  }
  T* out = reinterpret_cast<T*>(args.out.data) + row * args.out.stride + head * shape.head_dim;
#pragma unroll
  for (int j = 0; j < kDims; ++j) {
    const int d = lane + j * kWarp;
    if (d < shape.head_dim) out[d] = FromFloat<T>(state.weighted[j] / state.total);
  }
}

template <typename T, int kDims>
cudaError_t RowAttentionOf(const KernelContext& context,
                           const StepTables& tables,
                           const AttentionArgs& args) {
  const KvLayout layout(args.shape);
  return Launch({.name = "RowAttentionKernel",
                 .grid = dim3(static_cast<unsigned>((tables.num_rows + kWarps - 1) / kWarps),
                              static_cast<unsigned>(args.shape.num_heads)),
                 .block = dim3(kThreads),
                 .shared_bytes = kWarps * static_cast<size_t>(layout.padded_dim) * sizeof(float),
                 .stream = context.stream},
                RowAttentionKernel<T, kDims>,
                args,
                tables);
}

template <typename T>
cudaError_t RowAttentionAs(const KernelContext& context,
                           const StepTables& tables,
                           const AttentionArgs& args) {
  if (args.shape.head_dim <= 2 * kWarp) return RowAttentionOf<T, 2>(context, tables, args);
  return RowAttentionOf<T, kMaxHeadDim / kWarp>(context, tables, args);
}

}  // namespace

cudaError_t RowAttention(const KernelContext& context,
                         const StepTables& tables,
                         const AttentionArgs& args) {
  if (context.dtype != DType::kFloat32) return cudaErrorInvalidValue;
  return RowAttentionAs<float>(context, tables, args);
}

}  // namespace phi::kernels::cuda
