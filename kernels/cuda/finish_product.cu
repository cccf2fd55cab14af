#include "kernels/cuda/element.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.h"

namespace phi::kernels::cuda {
namespace {

constexpr int kThreads = 256;

unsigned Blocks(int64_t values) {
  return static_cast<unsigned>((values + kThreads - 1) / kThreads);
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    FinishProductKernel(const float* raw, int64_t outputs, ProductOutput output) {
  const int64_t row = blockIdx.y;
  const int64_t n = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (n >= outputs) return;
  if (n < output.split) {
    output.plain[row * output.split + n] += output.bias[n];
  } else {
    const int64_t col = n - output.split;
    static_cast<T*>(output.gelu)[row * output.gelu_stride + col] =
        FromFloat<T>(GeluNew(raw[row * (outputs - output.split) + col] + output.bias[n]));
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads) GatherRowsKernel(InputRows in, int64_t cols, T* to) {
  const int64_t row = blockIdx.y;
  const int64_t col = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (col >= cols) return;
  const int64_t from = in.row_index != nullptr ? in.row_index[row] : row;
  to[row * cols + col] = static_cast<const T*>(in.data)[from * in.stride + col];
}

__global__ void __launch_bounds__(kThreads)
    SumRanksKernel(const float* gathered, int ranks, int64_t count, float* sum) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  float total = gathered[i];
  for (int rank = 1; rank < ranks; ++rank) total += gathered[rank * count + i];
  sum[i] = total;
}

template <typename T>
cudaError_t FinishProductAs(const KernelContext& context,
                            const float* raw,
                            int64_t rows,
                            int64_t outputs,
                            const ProductOutput& output) {
  return Launch({.name = "FinishProductKernel",
                 .grid = dim3(Blocks(outputs), static_cast<unsigned>(rows)),
                 .block = dim3(kThreads),
                 .stream = context.stream},
                FinishProductKernel<T>,
                raw,
                outputs,
                output);
}

template <typename T>
cudaError_t GatherRowsAs(
    const KernelContext& context, const InputRows& in, int64_t rows, int64_t cols, void* to) {
  return Launch({.name = "GatherRowsKernel",
                 .grid = dim3(Blocks(cols), static_cast<unsigned>(rows)),
                 .block = dim3(kThreads),
                 .stream = context.stream},
                GatherRowsKernel<T>,
                in,
                cols,
                static_cast<T*>(to));
}

}  // namespace

cudaError_t FinishProduct(const KernelContext& context,
                          const float* raw,
                          int64_t rows,
                          int64_t outputs,
                          const ProductOutput& output) {
  switch (context.dtype) {
    case DType::kFloat32:
      return FinishProductAs<float>(context, raw, rows, outputs, output);
    case DType::kBFloat16:
      return FinishProductAs<__nv_bfloat16>(context, raw, rows, outputs, output);
    case DType::kFloat16:
      return FinishProductAs<__half>(context, raw, rows, outputs, output);
  }
  return cudaErrorInvalidValue;
}

cudaError_t GatherRows(
    const KernelContext& context, const InputRows& in, int64_t rows, int64_t cols, void* to) {
  // Bits are moved, whatever they mean.
  if (DTypeBytes(context.dtype) == 4) return GatherRowsAs<uint32_t>(context, in, rows, cols, to);
  return GatherRowsAs<uint16_t>(context, in, rows, cols, to);
}

cudaError_t SumRanks(
    const KernelContext& context, const float* gathered, int ranks, int64_t count, float* sum) {
  return Launch({.name = "SumRanksKernel",
                 .grid = dim3(Blocks(count)),
                 .block = dim3(kThreads),
                 .stream = context.stream},
                SumRanksKernel,
                gathered,
                ranks,
                count,
                sum);
}

}  // namespace phi::kernels::cuda
