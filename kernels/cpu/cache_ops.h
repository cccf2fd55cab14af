#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/backend.h"
#include "kernels/dtype.h"

// Rotary embedding and the writes to the KV cache: few operations per token and layer, in portable
// code.
namespace phi::kernels {

// Where a block's values lie: keys of a head as [padded head_dim][16 positions], values as [16
// positions][padded head_dim], so that attention loads whole vectors of either.
struct KvBlockLayout {
  DType dtype;
  AttentionShape shape;

  int64_t head_elements() const;
  int64_t head_bytes() const;
  // Of the keys, or the values, of all heads.
  int64_t block_bytes() const;
};

// One row of RotaryAndCacheWrite. `rotary` is the row of the token's position; `block` and `slot`
// are where it goes.
void RotateAndStoreRow(const KvBlockLayout& layout,
                       const float* rotary,
                       float* qkv,
                       KvLayer cache,
                       int64_t block,
                       int64_t slot);

// One copy of CopyKvBlocks.
void CopyBlock(const KvBlockLayout& layout, KvLayer cache, KvBlockCopy copy);

}  // namespace phi::kernels
