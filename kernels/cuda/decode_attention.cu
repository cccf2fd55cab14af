#include <algorithm>

#include "kernels/cuda/attention_row.cuh"
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/last_block.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/shared_memory.cuh"

// Attention of one new position a sequence. A block takes a share of the positions of one head of
// one row, its warps every fourth block of it; states of warps, then of blocks, are merged: the
// last block of a head and row to finish does that, so that it is one launch. Rotating the query
// and the new key and writing the cache is done on the way: the new position itself is taken from
// shared memory, and its slot is written by the one block that reads the cache block around it,
// once it has. With shared key-value heads there would be several such blocks, so that is for the
// other kernels.
namespace phi::kernels::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;
constexpr int kMaxSplits = 16;
constexpr int kBlocksPerProcessor = 3;  // at least

struct DecodeArgs {
  AttentionArgs attention;
  StepTables tables;
  float* scratch;    // [rows, heads, splits, 2 + head_dim]: maximum, total, weighted
  int32_t* tickets;  // [rows, heads]
};

// Shared memory of a block.
template <typename T>
struct SharedLayout {
  __device__ SharedLayout(float* base, int padded_dim)
      : query(base),
        new_key(base + padded_dim),
        new_value(base + 2 * padded_dim),
        states(base + 3 * padded_dim),
        is_last(reinterpret_cast<int*>(states + kWarps * (2 + padded_dim))) {}
  static size_t Bytes(int padded_dim) {
    return sizeof(float) * static_cast<size_t>(3 * padded_dim + kWarps * (2 + padded_dim) + 1);
  }
  float* query;      // rotated, divided by sqrt(head_dim)
  float* new_key;    // rotated, as the cache keeps it
  float* new_value;  // as the cache keeps it
  float* states;     // [kWarps][2 + padded_dim]
  int* is_last;
};

// Fills the layout's first three.
template <typename T>
__device__ void PrepareRow(
    const DecodeArgs& args, int padded_dim, int64_t row, int head, const SharedLayout<T>& shared) {
  const AttentionShape& shape = args.attention.shape;
  const float* query = args.attention.qkv + row * shape.qkv_cols() + head * shape.head_dim;
  const float* key = query + shape.query_cols();
  const float* value = key + shape.key_value_cols();
  const float* rotary =
      args.attention.rotary + int64_t{args.tables.positions[row]} * shape.rotary_dim;
  const float scale = 1.0F / sqrtf(static_cast<float>(shape.head_dim));
  for (int d = static_cast<int>(threadIdx.x); d < padded_dim; d += kThreads) {
    const bool inside = d < shape.head_dim;
    shared.query[d] = inside ? Rotated(query, rotary, shape.rotary_dim, d) * scale : 0.0F;
    const float new_key = inside ? Rotated(key, rotary, shape.rotary_dim, d) : 0.0F;
    shared.new_key[d] = ToFloat(FromFloat<T>(new_key));
    shared.new_value[d] = ToFloat(FromFloat<T>(inside ? value[d] : 0.0F));
  }
}

// Writes the new position to its slot.
template <typename T>
__device__ void WriteCache(const DecodeArgs& args,
                           const KvLayout& layout,
                           int64_t row,
                           int head,
                           const SharedLayout<T>& shared) {
  const int64_t block = args.tables.slots[row] / kKvBlockTokens;
  const int64_t place = args.tables.slots[row] % kKvBlockTokens;
  const int64_t first = block * layout.block_elements + head * layout.head_elements;
  T* keys = reinterpret_cast<T*>(args.attention.cache.keys) + first;
  T* values = reinterpret_cast<T*>(args.attention.cache.values) + first;
  for (int d = static_cast<int>(threadIdx.x); d < layout.padded_dim; d += kThreads) {
    keys[place * layout.padded_dim + d] = FromFloat<T>(shared.new_key[d]);
    values[d * kKvBlockTokens + place] = FromFloat<T>(shared.new_value[d]);
  }
}

// The share of the cached blocks of a row that this block reads.
struct BlockShare {
  __device__ explicit BlockShare(int num_cached)
      : num_blocks((num_cached + kKvBlockTokens - 1) / kKvBlockTokens) {
    const int splits = static_cast<int>(gridDim.x);
    const int share = (num_blocks + splits - 1) / splits;
    begin = static_cast<int>(blockIdx.x) * share;
    end = min(num_blocks, begin + share);
  }
  // Whether no other block reads the cache block of the new position.
  __device__ bool HasLast() const {
    return num_blocks == 0 ? blockIdx.x == 0 : begin < num_blocks && end == num_blocks;
  }
  int num_blocks;
  int begin;
  int end;
};

// Adds the new position, by one warp.
template <typename T, int kDims>
__device__ void AttendNew(const SharedLayout<T>& shared, int padded_dim, RowState<kDims>& state) {
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  float score = 0.0F;
  for (int d = lane; d < padded_dim; d += kWarp) {
    score = fmaf(shared.query[d], shared.new_key[d], score);
  }
  score = WarpSum(score);
  RaiseMaximum(score, state);
  const float weight = expf(score - state.maximum);
  state.total += weight;
#pragma unroll
  for (int j = 0; j < kDims; ++j) {
    const int d = lane + j * kWarp;
    if (d < padded_dim) state.weighted[j] = fmaf(weight, shared.new_value[d], state.weighted[j]);
  }
}

// Value d of the sum of `count` states [maximum, total, weighted...] of `stride` floats each.
struct MergedState {
  float maximum = -INFINITY;
  float total = 0.0F;
  float weighted = 0.0F;
};
__device__ inline MergedState MergeStates(const float* states, int count, int stride, int d) {
  MergedState merged;
  for (int i = 0; i < count; ++i) merged.maximum = fmaxf(merged.maximum, states[i * stride]);
  for (int i = 0; i < count; ++i) {
    const float* state = states + i * stride;
    // A share without positions has a maximum of -infinity.
    const float factor = state[0] == -INFINITY ? 0.0F : expf(state[0] - merged.maximum);
    merged.total = fmaf(factor, state[1], merged.total);
    merged.weighted = fmaf(factor, state[2 + d], merged.weighted);
  }
  return merged;
}

// The cached positions that are this warp's share.
template <typename T, int kDims>
__device__ void AttendShare(const DecodeArgs& args,
                            const KvLayout& layout,
                            int64_t row,
                            int head,
                            const float* query,
                            RowState<kDims>& state) {
  const int num_cached = args.tables.positions[row];
  const BlockShare share(num_cached);
  const int32_t* block_ids = args.tables.block_ids + args.tables.first_blocks[row];
  const KvLayer& cache = args.attention.cache;
  const T* keys = reinterpret_cast<const T*>(cache.keys) + head * layout.head_elements;
  const T* values = reinterpret_cast<const T*>(cache.values) + head * layout.head_elements;
  for (int i = share.begin + static_cast<int>(threadIdx.x / kWarp); i < share.end; i += kWarps) {
    const int64_t block = block_ids[i] * layout.block_elements;
    AttendBlock<T, kDims>(keys + block,
                          values + block,
                          min(kKvBlockTokens, num_cached - i * kKvBlockTokens),
                          query,
                          layout.padded_dim,
                          state);
  }
}

template <int kDims>
__device__ void KeepState(const RowState<kDims>& state, int padded_dim, float* to) {
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  if (lane == 0) {
    to[0] = state.maximum;
    to[1] = state.total;
  }
#pragma unroll
  for (int j = 0; j < kDims; ++j) {
    const int d = lane + j * kWarp;
    if (d < padded_dim) to[2 + d] = state.weighted[j];
  }
}

// Grid (splits, heads, rows).
template <typename T, int kDims>
__global__ void __launch_bounds__(kThreads, kBlocksPerProcessor)
    DecodeAttentionKernel(DecodeArgs args) {
  const AttentionShape shape = args.attention.shape;
  const KvLayout layout(shape);
  const SharedLayout<T> shared(SharedMemory<float>(), layout.padded_dim);
  const int head = static_cast<int>(blockIdx.y);
  const int64_t row = blockIdx.z;
  const int warp = static_cast<int>(threadIdx.x / kWarp);
  PrepareRow(args, layout.padded_dim, row, head, shared);
  __syncthreads();

  RowState<kDims> state;
  AttendShare<T>(args, layout, row, head, shared.query, state);
  if (blockIdx.x == 0 && warp == 0) AttendNew(shared, layout.padded_dim, state);
  const int shared_stride = 2 + layout.padded_dim;
  KeepState(state, layout.padded_dim, shared.states + warp * shared_stride);
  __syncthreads();
  if (BlockShare(args.tables.positions[row]).HasLast()) WriteCache(args, layout, row, head, shared);

  T* out = reinterpret_cast<T*>(args.attention.out.data) + row * args.attention.out.stride +
           head * shape.head_dim;
  const int splits = static_cast<int>(gridDim.x);
  const int64_t row_head = row * shape.num_heads + head;
  const int stride = 2 + shape.head_dim;
  float* scratch = args.scratch + row_head * splits * stride;
  for (int d = static_cast<int>(threadIdx.x); d < shape.head_dim; d += kThreads) {
    const MergedState merged = MergeStates(shared.states, kWarps, shared_stride, d);
    if (splits == 1) {
      out[d] = FromFloat<T>(merged.weighted / merged.total);
      continue;
    }
    float* mine = scratch + blockIdx.x * static_cast<unsigned>(stride);
    if (d == 0) {
      mine[0] = merged.maximum;
      mine[1] = merged.total;
    }
    mine[2 + d] = merged.weighted;
  }
  if (splits == 1 || !IsLastBlock(args.tickets + row_head, shared.is_last)) return;
  for (int d = static_cast<int>(threadIdx.x); d < shape.head_dim; d += kThreads) {
    const MergedState merged = MergeStates(scratch, splits, stride, d);
    out[d] = FromFloat<T>(merged.weighted / merged.total);
  }
}

// Enough blocks to give each processor two, within the scratch. A function of the number of rows
// alone, so that a recorded graph holds for every context length.
unsigned NumSplits(const KernelContext& context, int64_t rows, const AttentionShape& shape) {
  const int64_t blocks = rows * shape.num_heads;
  const int64_t wanted = std::min<int64_t>(2 * context.num_processors / blocks, kMaxSplits);
  const int64_t bytes =
      blocks * wanted * (2 + shape.head_dim) * static_cast<int64_t>(sizeof(float));
  const bool fits = blocks <= kMaxSplitTickets && bytes <= kSplitScratchBytes;
  return fits && wanted > 1 ? static_cast<unsigned>(wanted) : 1U;
}

template <typename T, int kDims>
cudaError_t DecodeAttentionOf(const KernelContext& context,
                              const StepTables& tables,
                              const AttentionArgs& args) {
  return Launch({.name = "DecodeAttentionKernel",
                 .grid = dim3(NumSplits(context, tables.num_rows, args.shape),
                              static_cast<unsigned>(args.shape.num_heads),
                              static_cast<unsigned>(tables.num_rows)),
                 .block = dim3(kThreads),
                 .shared_bytes = SharedLayout<T>::Bytes(KvLayout(args.shape).padded_dim),
                 .stream = context.stream},
                DecodeAttentionKernel<T, kDims>,
                DecodeArgs{args, tables, context.split_scratch, context.split_tickets});
}

template <typename T>
cudaError_t DecodeAttentionAs(const KernelContext& context,
                              const StepTables& tables,
                              const AttentionArgs& args) {
  if (args.shape.head_dim <= 2 * kWarp) return DecodeAttentionOf<T, 2>(context, tables, args);
  return DecodeAttentionOf<T, kMaxHeadDim / kWarp>(context, tables, args);
}

}  // namespace

cudaError_t DecodeAttention(const KernelContext& context,
                            const StepTables& tables,
                            const AttentionArgs& args) {
  switch (context.dtype) {
    case DType::kFloat32:
      return DecodeAttentionAs<float>(context, tables, args);
    case DType::kBFloat16:
      return DecodeAttentionAs<__nv_bfloat16>(context, tables, args);
    case DType::kFloat16:
      return DecodeAttentionAs<__half>(context, tables, args);
  }
  return cudaErrorInvalidValue;
}

}  // namespace phi::kernels::cuda
