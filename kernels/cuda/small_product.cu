#include <algorithm>

#include "kernels/cuda/element.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/normalize.cuh"
#include "kernels/cuda/product_output.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/shared_memory.cuh"

// Products of a few rows are bound by the reading of the weights. A warp takes four outputs at a
// time and asks for about eight 16-byte loads a lane before it multiplies (with eight rows of 16
// bits four on sm_80 and sm_90, for want of registers: tests/cuda_static counts them); the rows lie
// in shared memory. The grid fills the device once and walks over the outputs, so that the rows are
// brought in (or normalized) once a block and not once an output.
namespace phi::kernels::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarp;
constexpr int kOutputs = 4;  // of a warp at a time; divides kPackedPadding
constexpr int kSteps = 2;    // loads of one output under way in a lane
constexpr int kBlocksPerProcessor = 2;

struct SmallProductArgs {
  InputRows in;
  NormInput norm;
  int64_t rows;
  PackedWeights weights;
  ProductOutput output;
};

// Shared memory: the rows as operands [kRows, padded_cols], zero beyond cols, then, where they are
// normalized, the rows before that [kRows, padded_cols] in float32 and the sums of RowWarps.
size_t SharedBytes(int64_t rows, int64_t padded_cols, size_t element_bytes, bool with_norm) {
  const auto values = static_cast<size_t>(rows * padded_cols);
  const auto sums = static_cast<size_t>(rows * 2 * kNormParts);
  return values * element_bytes + (with_norm ? (values + sums) * sizeof(float) : 0);
}

// All warps have a part in it, for nothing can be multiplied before: as many a row as there are.
template <typename T, int kRows>
__device__ void FillRows(const SmallProductArgs& args, T* rows) {
  constexpr int kRowWarps = kWarps / kRows;
  const int64_t padded_cols = args.weights.padded_cols;
  const int row = static_cast<int>(threadIdx.x / (kRowWarps * kWarp));
  const int thread = static_cast<int>(threadIdx.x % (kRowWarps * kWarp));
  T* to = rows + row * padded_cols;
  const bool there = row < args.rows;
  const int32_t* index = args.norm.hidden != nullptr ? args.norm.row_index : args.in.row_index;
  // A row that is not there is made of the first one, since all warps meet at the barriers.
  const int64_t wanted = there ? row : 0;
  const int64_t from_row = index != nullptr ? index[wanted] : wanted;
  if (args.norm.hidden != nullptr) {
    auto* caches = reinterpret_cast<float*>(rows + kRows * padded_cols);
    const RowWarps<kRowWarps> warps = {.warp = thread / kWarp,
                                       .lane = thread % kWarp,
                                       .sums = caches + kRows * padded_cols + row * 2 * kNormParts};
    NormalizeRow(args.norm, from_row, caches + row * padded_cols, warps, [&](int i, float value) {
      to[i] = FromFloat<T>(there ? value : 0.0F);
    });
  } else {
    const T* from = static_cast<const T*>(args.in.data) + from_row * args.in.stride;
#pragma unroll 8
    for (int64_t i = thread; i < args.weights.cols; i += kRowWarps * kWarp) {
      to[i] = there ? from[i] : FromFloat<T>(0.0F);
    }
  }
  for (int64_t i = args.weights.cols + thread; i < padded_cols; i += kRowWarps * kWarp) {
    to[i] = FromFloat<T>(0.0F);
  }
}

// sums[o][r] += this lane's share of the product of rows[r] and output first + o.
template <typename T, int kRows>
__device__ void AddProducts(const T* rows,
                            const PackedWeights& weights,
                            int64_t first,
                            int lane,
                            float (&sums)[kOutputs][kRows]) {
  const int64_t padded_cols = weights.padded_cols;
  const T* from = static_cast<const T*>(weights.data) + first * padded_cols;
  for (int64_t begin = lane * kVector<T>; begin < padded_cols;
       begin += kSteps * kWarp * kVector<T>) {
    uint4 loads[kSteps][kOutputs];
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const int64_t k = begin + step * kWarp * kVector<T>;
#pragma unroll
      for (int o = 0; o < kOutputs; ++o) {
        loads[step][o] =
            k < padded_cols ? ptx::LoadStreaming16(from + o * padded_cols + k) : uint4{0, 0, 0, 0};
      }
    }
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const int64_t k = begin + step * kWarp * kVector<T>;
      if (k >= padded_cols) break;
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        float x[kVector<T>];
        Unpack16<T>(*reinterpret_cast<const uint4*>(rows + row * padded_cols + k), x);
#pragma unroll
        for (int o = 0; o < kOutputs; ++o) {
          float w[kVector<T>];
          Unpack16<T>(loads[step][o], w);
#pragma unroll
          for (int i = 0; i < kVector<T>; ++i) sums[o][row] = fmaf(w[i], x[i], sums[o][row]);
        }
      }
    }
  }
}

template <typename T, int kRows>
__global__ void __launch_bounds__(kThreads, kBlocksPerProcessor)
    SmallProductKernel(SmallProductArgs args) {
  T* rows = SharedMemory<T>();
  FillRows<T, kRows>(args, rows);
  __syncthreads();

  const int lane = static_cast<int>(threadIdx.x % kWarp);
  const int64_t stride = int64_t{gridDim.x} * kWarps * kOutputs;
  for (int64_t first = (int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp) * kOutputs;
       first < args.weights.outputs;
       first += stride) {
    float sums[kOutputs][kRows] = {};
    AddProducts<T, kRows>(rows, args.weights, first, lane, sums);
    // Lane o * kRows + r ends with the sum of that output and row.
    float mine = 0.0F;
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) {
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        const float sum = WarpSum(sums[o][row]);
        if (lane == o * kRows + row) mine = sum;
      }
    }
    const int row = lane % kRows;
    const int64_t n = first + lane / kRows;
    if (lane < kOutputs * kRows && row < args.rows && n < args.weights.outputs) {
      StoreOutput<T>(args.output, row, n, mine);
    }
  }
}

template <typename T, int kRows>
cudaError_t SmallProductOf(const KernelContext& context, const SmallProductArgs& args) {
  const size_t shared_bytes =
      SharedBytes(kRows, args.weights.padded_cols, sizeof(T), args.norm.hidden != nullptr);
  const cudaError_t allowed = AllowSharedBytes(SmallProductKernel<T, kRows>, shared_bytes);
  if (allowed != cudaSuccess) return allowed;
  const int64_t outputs_a_block = kWarps * kOutputs;
  const int64_t blocks = (args.weights.outputs + outputs_a_block - 1) / outputs_a_block;
  const int64_t grid = std::min<int64_t>(blocks, kBlocksPerProcessor * context.num_processors);
  return Launch({.name = "SmallProductKernel",
                 .grid = dim3(static_cast<unsigned>(grid)),
                 .block = dim3(kThreads),
                 .shared_bytes = shared_bytes,
                 .stream = context.stream},
                SmallProductKernel<T, kRows>,
                args);
}

template <typename T>
cudaError_t SmallProductAs(const KernelContext& context, const SmallProductArgs& args) {
  if (args.rows <= 1) return SmallProductOf<T, 1>(context, args);
  if (args.rows <= 2) return SmallProductOf<T, 2>(context, args);
  if (args.rows <= 4) return SmallProductOf<T, 4>(context, args);
  return SmallProductOf<T, 8>(context, args);
}

}  // namespace

int SmallProductRows(const KernelContext& context, int64_t padded_cols, bool with_norm) {
  int rows = kMaxSmallRows;
  while (rows > 0 && SharedBytes(rows, padded_cols, DTypeBytes(context.dtype), with_norm) >
                         static_cast<size_t>(context.max_shared_bytes)) {
    rows /= 2;
  }
  return rows;
}

cudaError_t SmallProduct(const KernelContext& context,
                         const InputRows& in,
                         const NormInput& norm,
                         int64_t rows,
                         const PackedWeights& weights,
                         const ProductOutput& output) {
  const SmallProductArgs args = {in, norm, rows, weights, output};
  switch (context.dtype) {
    case DType::kFloat32:
      return SmallProductAs<float>(context, args);
    case DType::kBFloat16:
      return SmallProductAs<__nv_bfloat16>(context, args);
    case DType::kFloat16:
      return SmallProductAs<__half>(context, args);
  }
  return cudaErrorInvalidValue;
}

}  // namespace phi::kernels::cuda
