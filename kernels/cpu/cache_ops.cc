#include "kernels/cpu/cache_ops.h"

#include <cstring>

#include "kernels/base/convert.h"
#include "kernels/cpu/kernel_table.h"

namespace phi::kernels {
namespace {

static_assert(kKvBlockTokens == kAttentionBlock);

void RotateHead(const float* rotary, int rotary_dim, float* head) {
  const int half = rotary_dim / 2;
  for (int i = 0; i < half; ++i) {
    const float cosine = rotary[i];
    const float sine = rotary[half + i];
    const float first = head[i];
    const float second = head[half + i];
    head[i] = first * cosine - second * sine;
    head[half + i] = second * cosine + first * sine;
  }
}

void StoreStrided(
    DType dtype, const float* from, int64_t count, int64_t stride, std::byte* to, int64_t offset) {
  if (dtype == DType::kFloat32) {
    auto* floats = reinterpret_cast<float*>(to) + offset;
    for (int64_t i = 0; i < count; ++i) floats[i * stride] = from[i];
  } else {
    auto* halves = reinterpret_cast<uint16_t*>(to) + offset;
    for (int64_t i = 0; i < count; ++i) halves[i * stride] = FloatToBFloat16(from[i]);
  }
}

}  // namespace

int64_t KvBlockLayout::head_elements() const {
  return PaddedHeadDim(shape.head_dim) * kKvBlockTokens;
}
int64_t KvBlockLayout::head_bytes() const {
  return head_elements() * static_cast<int64_t>(DTypeBytes(dtype));
}
int64_t KvBlockLayout::block_bytes() const { return head_bytes() * shape.num_key_value_heads; }

void RotateAndStoreRow(const KvBlockLayout& layout,
                       const float* rotary,
                       float* qkv,
                       KvLayer cache,
                       int64_t block,
                       int64_t slot) {
  const AttentionShape& shape = layout.shape;
  for (int64_t head = 0; head < shape.num_heads; ++head)
    RotateHead(rotary, shape.rotary_dim, qkv + head * shape.head_dim);
  float* keys = qkv + shape.query_cols();
  const float* values = keys + shape.key_value_cols();
  std::byte* key_block = cache.keys + block * layout.block_bytes();
  std::byte* value_block = cache.values + block * layout.block_bytes();
  for (int64_t head = 0; head < shape.num_key_value_heads; ++head) {
    float* key = keys + head * shape.head_dim;
    RotateHead(rotary, shape.rotary_dim, key);
    const int64_t in_block = head * layout.head_elements();
    StoreStrided(layout.dtype, key, shape.head_dim, kKvBlockTokens, key_block, in_block + slot);
    StoreStrided(layout.dtype,
                 values + head * shape.head_dim,
                 shape.head_dim,
                 1,
                 value_block,
                 in_block + slot * PaddedHeadDim(shape.head_dim));
  }
}

void CopyBlock(const KvBlockLayout& layout, KvLayer cache, KvBlockCopy copy) {
  const int64_t bytes = layout.block_bytes();
  for (std::byte* blocks : {cache.keys, cache.values})
    std::memcpy(blocks + copy.to * bytes, blocks + copy.from * bytes, static_cast<size_t>(bytes));
}

}  // namespace phi::kernels
