#include "kernels/cuda/attention_row.cuh"
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.h"

namespace phi::kernels::cuda {
namespace {

constexpr int kThreads = 128;

// A block a row. A thread turns whole pairs, so that nobody reads what another one writes.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    RotaryKernel(AttentionArgs args, const int32_t* positions, const int32_t* slots) {
  const int64_t row = blockIdx.x;
  const AttentionShape shape = args.shape;
  const KvLayout layout(shape);
  float* queries = args.qkv + row * shape.qkv_cols();
  const float* keys = queries + shape.query_cols();
  const float* values = keys + shape.key_value_cols();
  const float* rotary = args.rotary + int64_t{positions[row]} * shape.rotary_dim;
  const int half = shape.rotary_dim / 2;
  for (int i = static_cast<int>(threadIdx.x); i < shape.num_heads * half; i += kThreads) {
    float* head = queries + i / half * shape.head_dim;
    const int pair = i % half;
    const float low = Rotated(head, rotary, shape.rotary_dim, pair);
    const float high = Rotated(head, rotary, shape.rotary_dim, pair + half);
    head[pair] = low;
    head[pair + half] = high;
  }
  const int64_t block = slots[row] / kKvBlockTokens;
  const int64_t place = slots[row] % kKvBlockTokens;
  T* key_block = reinterpret_cast<T*>(args.cache.keys) + block * layout.block_elements;
  T* value_block = reinterpret_cast<T*>(args.cache.values) + block * layout.block_elements;
  for (int i = static_cast<int>(threadIdx.x); i < shape.num_key_value_heads * layout.padded_dim;
       i += kThreads) {
    const int head = i / layout.padded_dim;
    const int d = i % layout.padded_dim;
    const bool inside = d < shape.head_dim;
    const int64_t from = int64_t{head} * shape.head_dim;
    const float key = inside ? Rotated(keys + from, rotary, shape.rotary_dim, d) : 0.0F;
    const float value = inside ? values[from + d] : 0.0F;
    key_block[head * layout.head_elements + place * layout.padded_dim + d] = FromFloat<T>(key);
    value_block[head * layout.head_elements + d * kKvBlockTokens + place] = FromFloat<T>(value);
  }
}

template <typename T>
cudaError_t RotaryAs(const KernelContext& context,
                     const StepTables& tables,
                     const AttentionArgs& args) {
  return Launch({.name = "RotaryKernel",
                 .grid = dim3(static_cast<unsigned>(tables.num_rows)),
                 .block = dim3(kThreads),
                 .stream = context.stream},
                RotaryKernel<T>,
                args,
                tables.positions,
                tables.slots);
}

}  // namespace

cudaError_t RotaryAndCacheWrite(const KernelContext& context,
                                const StepTables& tables,
                                const AttentionArgs& args) {
  switch (context.dtype) {
    case DType::kFloat32:
      return RotaryAs<float>(context, tables, args);
    case DType::kBFloat16:
      return RotaryAs<__nv_bfloat16>(context, tables, args);
    case DType::kFloat16:
      return RotaryAs<__half>(context, tables, args);
  }
  return cudaErrorInvalidValue;
}

}  // namespace phi::kernels::cuda
