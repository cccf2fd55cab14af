#include "kernels/cuda/attention_row.cuh"
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/shared_memory.cuh"

// Attention of up to 64 consecutive rows of one sequence and one head by tensor cores: 16 rows a
// warp, 64 positions at a time from 0 upwards, so that a row's sums do not depend on the tile it
// stands in. Positions that a row must not see get a weight of exactly zero and leave its sums as
// they are. Source: Dao, FlashAttention-2, section 3.
namespace phi::kernels::cuda {
namespace {

constexpr int kWarps = kTileRows / 16;
constexpr int kThreads = kWarps * kWarp;
constexpr int kChunk = 64;  // positions
constexpr int kChunkBlocks = kChunk / kKvBlockTokens;
constexpr int kScoreTiles = kChunk / 8;
constexpr int kValueStride = kChunk + 8;
// Leaves a thread as many registers as the largest head needs.
constexpr int kBlocksPerProcessor = 2;

// One warp's 16 rows; this lane has two of them, group and group + 8 (see MmaM16N8K16).
template <int kDim>
struct TileState {
  uint32_t query[kDim / 16][4];
  float weighted[kDim / 8][4] = {};
  float maximum[2] = {-INFINITY, -INFINITY};
  float total[2] = {};  // of this lane's columns
  int position[2];      // of the two rows; -1 for one that is not there
};

template <typename T, int kDim>
struct SharedTiles {
  static constexpr int kKeyStride = kDim + 8;
  static constexpr size_t kBytes =
      sizeof(T) * (size_t{kChunk} * kKeyStride + size_t{kDim} * kValueStride);
  __device__ explicit SharedTiles(T* base) : keys(base), values(base + kChunk * kKeyStride) {}
  T* keys;    // [kChunk][kKeyStride]: a position a row
  T* values;  // [kDim][kValueStride]: a dimension a row
};

__device__ inline int Lane() { return static_cast<int>(threadIdx.x % kWarp); }
__device__ inline int Warp() { return static_cast<int>(threadIdx.x / kWarp); }

template <typename T, int kDim>
__device__ void LoadQueries(const AttentionArgs& args,
                            const AttentionTile& tile,
                            int head,
                            TileState<kDim>& state) {
  const AttentionShape& shape = args.shape;
  const int row = Warp() * 16 + Lane() / 4;
  const int pair = Lane() % 4 * 2;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int mine = row + 8 * half;
    const bool there = mine < tile.num_rows;
    state.position[half] = there ? tile.first_position + mine : -1;
    const float* from = args.qkv + int64_t{tile.first_row + (there ? mine : 0)} * shape.qkv_cols() +
                        head * shape.head_dim;
    const auto at = [&](int d) { return there && d < shape.head_dim ? from[d] : 0.0F; };
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k) {
      const int d = 16 * k + pair;
      state.query[k][half] = PackPair<T>(at(d), at(d + 1));
      state.query[k][2 + half] = PackPair<T>(at(d + 8), at(d + 9));
    }
  }
}

// Brings positions first .. first + kChunk - 1 of one head to shared memory; zeros beyond
// num_positions, so that a weight of zero meets no NaN that nobody wrote over.
template <typename T, int kDim>
__device__ void FetchChunk(const AttentionArgs& args,
                           const KvLayout& layout,
                           const int32_t* block_ids,
                           int64_t head_first,
                           int first,
                           int num_positions,
                           const SharedTiles<T, kDim>& shared) {
  constexpr int kVectors = kKvBlockTokens / kVector<T>;
  const T* keys = reinterpret_cast<const T*>(args.cache.keys) + head_first;
  const T* values = reinterpret_cast<const T*>(args.cache.values) + head_first;
  for (int part = 0; part < kChunkBlocks; ++part) {
    const int position = first + part * kKvBlockTokens;
    const bool valid = position < num_positions;
    const int64_t block =
        valid ? block_ids[position / kKvBlockTokens] * layout.block_elements : int64_t{0};
    const int key_vectors = layout.padded_dim / kVector<T>;
    for (int i = static_cast<int>(threadIdx.x); i < kKvBlockTokens * key_vectors; i += kThreads) {
      const int token = i / key_vectors;
      const int d = i % key_vectors * kVector<T>;
      ptx::CopyAsync16OrZero(
          shared.keys + (part * kKvBlockTokens + token) * SharedTiles<T, kDim>::kKeyStride + d,
          keys + block + token * layout.padded_dim + d,
          valid);
    }
    for (int i = static_cast<int>(threadIdx.x); i < layout.padded_dim * kVectors; i += kThreads) {
      const int d = i / kVectors;
      const int token = i % kVectors * kVector<T>;
      ptx::CopyAsync16OrZero(shared.values + d * kValueStride + part * kKvBlockTokens + token,
                             values + block + d * kKvBlockTokens + token,
                             valid);
    }
  }
  ptx::CopyAsyncCommit();
  ptx::CopyAsyncWait<0>();
  __syncthreads();
  const int present = num_positions - first;
  if (present >= kChunk) return;
  const int missing = min(kKvBlockTokens, kChunk - present);  // the others were not fetched
  for (int i = static_cast<int>(threadIdx.x); i < layout.padded_dim * missing; i += kThreads) {
    shared.values[i / missing * kValueStride + present + i % missing] = FromFloat<T>(0.0F);
  }
  __syncthreads();
}

// scores = Q K^T / sqrt(head_dim), -infinity where a row must not look.
template <typename T, int kDim>
__device__ void Score(const T* keys,
                      int first,
                      float scale,
                      const TileState<kDim>& state,
                      float (&scores)[kScoreTiles][4]) {
  const int pair = Lane() % 4 * 2;
#pragma unroll
  for (int j = 0; j < kScoreTiles; ++j) {
    const T* key = keys + (8 * j + Lane() / 4) * SharedTiles<T, kDim>::kKeyStride + pair;
#pragma unroll
    for (int v = 0; v < 4; ++v) scores[j][v] = 0.0F;
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k) {
      const uint32_t b[2] = {LoadPair(key + 16 * k), LoadPair(key + 16 * k + 8)};
      ptx::MmaM16N8K16<T>(scores[j], state.query[k], b);
    }
#pragma unroll
    for (int v = 0; v < 4; ++v) {
      const int position = first + 8 * j + pair + v % 2;
      scores[j][v] = position <= state.position[v / 2] ? scores[j][v] * scale : -INFINITY;
    }
  }
}

// Turns scores to weights e^(score - maximum), and what has been summed to the new maximum.
template <int kDim>
__device__ void Weigh(TileState<kDim>& state, float (&scores)[kScoreTiles][4]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float maximum = state.maximum[half];
#pragma unroll
    for (int j = 0; j < kScoreTiles; ++j) {
      maximum = fmaxf(maximum, fmaxf(scores[j][2 * half], scores[j][2 * half + 1]));
    }
    // A row's columns lie in four neighbouring lanes.
    maximum = fmaxf(maximum, ShuffleXor(maximum, 1));
    maximum = fmaxf(maximum, ShuffleXor(maximum, 2));
    const float base = maximum == -INFINITY ? 0.0F : maximum;  // a row that is not there
    const float factor = expf(state.maximum[half] - base);
    state.maximum[half] = maximum;
    float total = state.total[half] * factor;
#pragma unroll
    for (int j = 0; j < kScoreTiles; ++j) {
#pragma unroll
      for (int v = 2 * half; v < 2 * half + 2; ++v) {
        scores[j][v] = expf(scores[j][v] - base);
        total += scores[j][v];
      }
    }
    state.total[half] = total;
#pragma unroll
    for (int j = 0; j < kDim / 8; ++j) {
      state.weighted[j][2 * half] *= factor;
      state.weighted[j][2 * half + 1] *= factor;
    }
  }
}

// weighted += weights · V.
template <typename T, int kDim>
__device__ void AddValues(const T* values,
                          const float (&weights)[kScoreTiles][4],
                          TileState<kDim>& state) {
  const int pair = Lane() % 4 * 2;
#pragma unroll
  for (int k = 0; k < kChunk / 16; ++k) {
    const float(&low)[4] = weights[2 * k];
    const float(&high)[4] = weights[2 * k + 1];
    const uint32_t a[4] = {PackPair<T>(low[0], low[1]),
                           PackPair<T>(low[2], low[3]),
                           PackPair<T>(high[0], high[1]),
                           PackPair<T>(high[2], high[3])};
#pragma unroll
    for (int j = 0; j < kDim / 8; ++j) {
      const T* value = values + (8 * j + Lane() / 4) * kValueStride + 16 * k + pair;
      const uint32_t b[2] = {LoadPair(value), LoadPair(value + 8)};
      ptx::MmaM16N8K16<T>(state.weighted[j], a, b);
    }
  }
}

template <typename T, int kDim>
__device__ void StoreTile(const AttentionArgs& args,
                          const AttentionTile& tile,
                          int head,
                          const TileState<kDim>& state) {
  const int head_dim = args.shape.head_dim;
  const int pair = Lane() % 4 * 2;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float total = state.total[half];
    total += ShuffleXor(total, 1);
    total += ShuffleXor(total, 2);
    const int row = Warp() * 16 + Lane() / 4 + 8 * half;
    if (row >= tile.num_rows) continue;
    T* out = reinterpret_cast<T*>(args.out.data) + (tile.first_row + row) * args.out.stride +
             head * head_dim;
#pragma unroll
    for (int j = 0; j < kDim / 8; ++j) {
#pragma unroll
      for (int v = 0; v < 2; ++v) {
        const int d = 8 * j + pair + v;
        if (d < head_dim) out[d] = FromFloat<T>(state.weighted[j][2 * half + v] / total);
      }
    }
  }
}

// Grid (tiles, heads).
template <typename T, int kDim>
__global__ void __launch_bounds__(kThreads, kBlocksPerProcessor)
    TileAttentionKernel(AttentionArgs args, StepTables tables) {
  const AttentionTile tile = tables.tiles[blockIdx.x];
  const AttentionShape shape = args.shape;
  const KvLayout layout(shape);
  const int head = static_cast<int>(blockIdx.y);
  const int kv_head = head / (shape.num_heads / shape.num_key_value_heads);
  const SharedTiles<T, kDim> shared(SharedMemory<T>());
  // Dimensions beyond the head's: fetched by nobody, met by zeros of the query.
  for (int i = static_cast<int>(threadIdx.x); i < kChunk * (kDim - layout.padded_dim);
       i += kThreads) {
    const int d = layout.padded_dim + i / kChunk;
    shared.keys[i % kChunk * SharedTiles<T, kDim>::kKeyStride + d] = FromFloat<T>(0.0F);
    shared.values[d * kValueStride + i % kChunk] = FromFloat<T>(0.0F);
  }
  TileState<kDim> state;
  LoadQueries<T>(args, tile, head, state);
  const float scale = 1.0F / sqrtf(static_cast<float>(shape.head_dim));
  const int num_positions = tile.first_position + tile.num_rows;
  const int warp_end = tile.first_position + min(tile.num_rows, (Warp() + 1) * 16);
  for (int first = 0; first < num_positions; first += kChunk) {
    __syncthreads();  // the chunk before is read
    FetchChunk(args,
               layout,
               tables.block_ids + tile.first_block,
               kv_head * layout.head_elements,
               first,
               num_positions,
               shared);
    if (first >= warp_end) continue;  // nothing that this warp's rows may see
    float scores[kScoreTiles][4];
    Score<T>(shared.keys, first, scale, state, scores);
    Weigh(state, scores);
    AddValues<T>(shared.values, scores, state);
  }
  StoreTile<T>(args, tile, head, state);
}

template <typename T, int kDim>
cudaError_t TileAttentionOf(const KernelContext& context,
                            const StepTables& tables,
                            const AttentionArgs& args) {
  constexpr size_t kBytes = SharedTiles<T, kDim>::kBytes;
  static_assert(kBytes <= kDefaultSharedBytes);
  return Launch({.name = "TileAttentionKernel",
                 .grid = dim3(static_cast<unsigned>(tables.num_tiles),
                              static_cast<unsigned>(args.shape.num_heads)),
                 .block = dim3(kThreads),
                 .shared_bytes = kBytes,
                 .stream = context.stream},
                TileAttentionKernel<T, kDim>,
                args,
                tables);
}

template <typename T>
cudaError_t TileAttentionAs(const KernelContext& context,
                            const StepTables& tables,
                            const AttentionArgs& args) {
  if (args.shape.head_dim <= 64) return TileAttentionOf<T, 64>(context, tables, args);
  return TileAttentionOf<T, kMaxHeadDim>(context, tables, args);
}

}  // namespace

cudaError_t TileAttention(const KernelContext& context,
                          const StepTables& tables,
                          const AttentionArgs& args) {
  switch (context.dtype) {
    case DType::kFloat32:
      return cudaErrorInvalidValue;
    case DType::kBFloat16:
      return TileAttentionAs<__nv_bfloat16>(context, tables, args);
    case DType::kFloat16:
      return TileAttentionAs<__half>(context, tables, args);
  }
  return cudaErrorInvalidValue;
}

}  // namespace phi::kernels::cuda
