#include "kernels/cuda/element.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/normalize.cuh"

namespace phi::kernels::cuda {
namespace {

constexpr int kEmbedThreads = 256;
constexpr int kNormWarps = 4;

template <typename T>
__global__ void __launch_bounds__(kEmbedThreads)
    EmbedKernel(const T* table, const int32_t* token_ids, int64_t size, float* hidden) {
  const int64_t row = blockIdx.x;
  const T* from = table + token_ids[row] * size;
  for (int64_t i = threadIdx.x; i < size; i += kEmbedThreads) {
    hidden[row * size + i] = ToFloat(from[i]);
  }
}

// A warp a row.
template <typename T>
__global__ void __launch_bounds__(kNormWarps* kWarp)
    NormalizeKernel(NormInput norm, int64_t rows, T* out, int64_t out_stride) {
  const int64_t row = int64_t{blockIdx.x} * kNormWarps + threadIdx.x / kWarp;
  if (row >= rows) return;
  // Without a partial x is hidden, and what is written back is what was read.
  float* cache = const_cast<float*>(norm.hidden) + row * norm.size;
  T* to = out + row * out_stride;
  const RowWarps<1> warps = {.lane = static_cast<int>(threadIdx.x % kWarp)};
  NormalizeRow(norm, row, cache, warps, [&](int i, float value) { to[i] = FromFloat<T>(value); });
}

template <typename T>
cudaError_t EmbedAs(const KernelContext& context,
                    const void* table,
                    const int32_t* token_ids,
                    int64_t rows,
                    int64_t size,
                    float* hidden) {
  return Launch({.name = "EmbedKernel",
                 .grid = dim3(static_cast<unsigned>(rows)),
                 .block = dim3(kEmbedThreads),
                 .stream = context.stream},
                EmbedKernel<T>,
                static_cast<const T*>(table),
                token_ids,
                size,
                hidden);
}

template <typename T>
cudaError_t NormalizeAs(const KernelContext& context,
                        const NormInput& norm,
                        int64_t rows,
                        Operands out) {
  return Launch({.name = "NormalizeKernel",
                 .grid = dim3(static_cast<unsigned>((rows + kNormWarps - 1) / kNormWarps)),
                 .block = dim3(kNormWarps * kWarp),
                 .stream = context.stream},
                NormalizeKernel<T>,
                norm,
                rows,
                reinterpret_cast<T*>(out.data),
                out.stride);
}

}  // namespace

cudaError_t Embed(const KernelContext& context,
                  const void* table,
                  const int32_t* token_ids,
                  int64_t rows,
                  int64_t size,
                  float* hidden) {
  switch (context.dtype) {
    case DType::kFloat32:
      return EmbedAs<float>(context, table, token_ids, rows, size, hidden);
    case DType::kBFloat16:
      return EmbedAs<__nv_bfloat16>(context, table, token_ids, rows, size, hidden);
    case DType::kFloat16:
      return EmbedAs<__half>(context, table, token_ids, rows, size, hidden);
  }
  return cudaErrorInvalidValue;
}

cudaError_t Normalize(const KernelContext& context,
                      const NormInput& norm,
                      int64_t rows,
                      Operands out) {
  switch (context.dtype) {
    case DType::kFloat32:
      return NormalizeAs<float>(context, norm, rows, out);
    case DType::kBFloat16:
      return NormalizeAs<__nv_bfloat16>(context, norm, rows, out);
    case DType::kFloat16:
      return NormalizeAs<__half>(context, norm, rows, out);
  }
  return cudaErrorInvalidValue;
}

}  // namespace phi::kernels::cuda
