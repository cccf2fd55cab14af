#include "shard/kv_cache.h"

#include <utility>

#include "kernels/base/status_macros.h"

namespace phi::shard {
namespace {

size_t LayerBytes(const KvCache::Shape& shape, const kernels::MemoryLayout& layout) {
  return shape.num_blocks * layout.KvBlockBytes(shape.attention);
}

}  // namespace

size_t KvCache::Bytes(const Shape& shape, const kernels::MemoryLayout& layout) {
  return static_cast<size_t>(shape.num_layers) * LayerBytes(shape, layout);
}

absl::StatusOr<KvCache> KvCache::Create(const Shape& shape, kernels::Backend& backend) {
  PHI_ASSIGN_OR_RETURN(std::unique_ptr<kernels::DeviceBuffer> buffer,
                       backend.Allocate(Bytes(shape, backend)));
  return KvCache(std::move(buffer), LayerBytes(shape, backend));
}

kernels::KvLayer KvCache::Layer(int layer) const {
  std::byte* begin = buffer_->data() + static_cast<size_t>(layer) * layer_bytes_;
  return {.keys = begin, .values = begin + layer_bytes_ / 2};
}

}  // namespace phi::shard
