#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace phi::shard {

// The paged KV cache of one rank: num_blocks blocks of kKvBlockTokens positions in each layer, for
// this rank's heads. One block id means the same block in all layers. Who owns a block is the
// leader's affair (I2); here is the memory, taken once (I6).
class KvCache {
 public:
  struct Shape {
    kernels::AttentionShape attention;  // local heads
    int num_layers = 0;
    uint32_t num_blocks = 0;
  };

  static size_t Bytes(const Shape& shape, const kernels::MemoryLayout& layout);
  // RESOURCE_EXHAUSTED with the bytes when the device has no room.
  static absl::StatusOr<KvCache> Create(const Shape& shape, kernels::Backend& backend);

  kernels::KvLayer Layer(int layer) const;

 private:
  KvCache(std::unique_ptr<kernels::DeviceBuffer> buffer, size_t layer_bytes)
      : buffer_(std::move(buffer)), layer_bytes_(layer_bytes) {}

  std::unique_ptr<kernels::DeviceBuffer> buffer_;  // [num_layers][keys, values][num_blocks]
  size_t layer_bytes_;
};

}  // namespace phi::shard
