#include "kernels/cuda/element.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/product_output.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/shared_memory.cuh"

// Products by tensor cores in 64 x 64 tiles: four warps of 32 x 32 outputs, 64 inputs a stage, two
// stages of cp.async. Plain on purpose: it serves --batch_invariant and operands that the library
// cannot take, and its order of summation, K upwards 16 inputs at a time, is the same for any
// number of rows.
namespace phi::kernels::cuda {
namespace {

constexpr int kTile = 64;      // rows, outputs and inputs; divides kPackedPadding
constexpr int kWarpTile = 32;  // rows and outputs of a warp
constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;
// 8 more elements a row put the lanes of a fragment in 32 different banks.
constexpr int kStride = kTile + 8;
constexpr int kMatrix = kTile * kStride;
constexpr int kStages = 2;
constexpr int kRowTiles = kWarpTile / 16;
constexpr int kOutputTiles = kWarpTile / 8;

struct TileProductArgs {
  InputRows in;
  int64_t rows;
  PackedWeights weights;
  ProductOutput output;
};

// Whether rows begin at 16-byte boundaries and are whole vectors.
__device__ bool HasVectors(const TileProductArgs& args) {
  return reinterpret_cast<uintptr_t>(args.in.data) % 16 == 0 && args.in.stride % 8 == 0 &&
         args.weights.cols % 8 == 0;
}

template <typename T>
__device__ const T* InputRow(const TileProductArgs& args, int64_t row) {
  const int64_t from = args.in.row_index != nullptr ? args.in.row_index[row] : row;
  return static_cast<const T*>(args.in.data) + from * args.in.stride;
}

// Queues inputs first_k .. first_k + kTile - 1 of the block's rows and outputs for the stage.
template <typename T>
__device__ void FetchStage(const TileProductArgs& args, int64_t first_k, T* inputs, T* weights) {
  constexpr int kVectors = kTile / kVector<T>;
  const bool has_vectors = HasVectors(args);
  const int64_t first_row = int64_t{blockIdx.y} * kTile;
  const int64_t first_output = int64_t{blockIdx.x} * kTile;
  for (int i = static_cast<int>(threadIdx.x); i < kTile * kVectors; i += kThreads) {
    const int line = i / kVectors;
    const int col = i % kVectors * kVector<T>;
    const int64_t k = first_k + col;
    ptx::CopyAsync16OrZero(weights + line * kStride + col,
                           static_cast<const T*>(args.weights.data) +
                               (first_output + line) * args.weights.padded_cols + k,
                           true);
    T* to = inputs + line * kStride + col;
    const int64_t row = first_row + line;
    if (has_vectors) {
      const bool valid = row < args.rows && k < args.weights.cols;
      const T* from = InputRow<T>(args, row < args.rows ? row : 0);
      ptx::CopyAsync16OrZero(to, valid ? from + k : from, valid);
    } else {
#pragma unroll
      for (int j = 0; j < kVector<T>; ++j) {
        const bool valid = row < args.rows && k + j < args.weights.cols;
        to[j] = valid ? InputRow<T>(args, row)[k + j] : FromFloat<T>(0.0F);
      }
    }
  }
  ptx::CopyAsyncCommit();
}

template <typename T>
__device__ void MultiplyStage(const T* inputs,
                              const T* weights,
                              float (&sums)[kRowTiles][kOutputTiles][4]) {
  const int warp = static_cast<int>(threadIdx.x / kWarp);
  const int group = static_cast<int>(threadIdx.x % kWarp / 4);
  const int pair = static_cast<int>(threadIdx.x % 4 * 2);
  const T* a_rows = inputs + (warp / 2 * kWarpTile + group) * kStride + pair;
  const T* b_rows = weights + (warp % 2 * kWarpTile + group) * kStride + pair;
#pragma unroll
  for (int k = 0; k < kTile; k += 16) {
    uint32_t a[kRowTiles][4];
    uint32_t b[kOutputTiles][2];
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
      const T* from = a_rows + 16 * i * kStride + k;
      a[i][0] = LoadPair(from);
      a[i][1] = LoadPair(from + 8 * kStride);
      a[i][2] = LoadPair(from + 8);
      a[i][3] = LoadPair(from + 8 * kStride + 8);
    }
#pragma unroll
    for (int j = 0; j < kOutputTiles; ++j) {
      const T* from = b_rows + 8 * j * kStride + k;
      b[j][0] = LoadPair(from);
      b[j][1] = LoadPair(from + 8);
    }
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
      for (int j = 0; j < kOutputTiles; ++j) ptx::MmaM16N8K16<T>(sums[i][j], a[i], b[j]);
    }
  }
}

template <typename T>
__device__ void StoreSums(const TileProductArgs& args,
                          const float (&sums)[kRowTiles][kOutputTiles][4]) {
  const int warp = static_cast<int>(threadIdx.x / kWarp);
  const int group = static_cast<int>(threadIdx.x % kWarp / 4);
  const int pair = static_cast<int>(threadIdx.x % 4 * 2);
  const int64_t first_row = int64_t{blockIdx.y} * kTile + warp / 2 * kWarpTile + group;
  const int64_t first_output = int64_t{blockIdx.x} * kTile + warp % 2 * kWarpTile + pair;
#pragma unroll
  for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
    for (int j = 0; j < kOutputTiles; ++j) {
#pragma unroll
      for (int v = 0; v < 4; ++v) {
        const int64_t row = first_row + 16 * i + v / 2 * 8;
        const int64_t n = first_output + 8 * j + v % 2;
        if (row < args.rows && n < args.weights.outputs) {
          StoreOutput<T>(args.output, row, n, sums[i][j][v]);
        }
      }
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads) TileProductKernel(TileProductArgs args) {
  T* inputs = SharedMemory<T>();            // [kStages][kTile][kStride]
  T* weights = inputs + kStages * kMatrix;  // the same
  float sums[kRowTiles][kOutputTiles][4] = {};
  const int num_stages = static_cast<int>(args.weights.padded_cols / kTile);
  FetchStage<T>(args, 0, inputs, weights);
  for (int stage = 0; stage < num_stages; ++stage) {
    const int next = (stage + 1) % kStages * kMatrix;
    if (stage + 1 < num_stages) {
      FetchStage<T>(args, int64_t{stage + 1} * kTile, inputs + next, weights + next);
      ptx::CopyAsyncWait<1>();
    } else {
      ptx::CopyAsyncWait<0>();
    }
    __syncthreads();
    const int present = stage % kStages * kMatrix;
    MultiplyStage<T>(inputs + present, weights + present, sums);
    // The next turn's fetch writes to the stage that was just read.
    __syncthreads();
  }
  StoreSums<T>(args, sums);
}

template <typename T>
cudaError_t TileProductAs(const KernelContext& context, const TileProductArgs& args) {
  const int64_t row_tiles = (args.rows + kTile - 1) / kTile;
  const int64_t output_tiles = (args.weights.outputs + kTile - 1) / kTile;
  return Launch(
      {.name = "TileProductKernel",
       .grid = dim3(static_cast<unsigned>(output_tiles), static_cast<unsigned>(row_tiles)),
       .block = dim3(kThreads),
       .shared_bytes = size_t{2} * kStages * kMatrix * sizeof(T),
       .stream = context.stream},
      TileProductKernel<T>,
      args);
}

}  // namespace

cudaError_t TileProduct(const KernelContext& context,
                        const InputRows& in,
                        int64_t rows,
                        const PackedWeights& weights,
                        const ProductOutput& output) {
  const TileProductArgs args = {in, rows, weights, output};
  switch (context.dtype) {
    case DType::kFloat32:
      return cudaErrorInvalidValue;
    case DType::kBFloat16:
      return TileProductAs<__nv_bfloat16>(context, args);
    case DType::kFloat16:
      return TileProductAs<__half>(context, args);
  }
  return cudaErrorInvalidValue;
}

}  // namespace phi::kernels::cuda
