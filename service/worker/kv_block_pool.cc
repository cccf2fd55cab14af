#include "service/worker/kv_block_pool.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "kernels/base/check.h"

namespace phi::service {

KvBlockPool::KvBlockPool(uint32_t num_blocks) : owners_(num_blocks, 0), free_(num_blocks) {
  for (uint32_t i = 0; i < num_blocks; ++i) free_[i] = num_blocks - 1 - i;
}

std::optional<std::vector<uint32_t>> KvBlockPool::Acquire(uint64_t owner, uint32_t count) {
  PHI_CHECK(owner != 0, "an owner is not 0");
  if (count > free_.size()) return std::nullopt;
  std::vector<uint32_t> block_ids(free_.rbegin(), free_.rbegin() + count);
  free_.resize(free_.size() - count);
  for (uint32_t id : block_ids) owners_[id] = owner;
  return block_ids;
}

void KvBlockPool::Release(uint64_t owner, std::span<const uint32_t> block_ids) {
  for (uint32_t id : block_ids) {
    PHI_CHECK(id < owners_.size(), "block %u of %zu", id, owners_.size());
    PHI_CHECK(owner != 0 && owners_[id] == owner,
              "block %u belongs to %llu, not to %llu",
              id,
              static_cast<unsigned long long>(owners_[id]),
              static_cast<unsigned long long>(owner));
    owners_[id] = 0;
    free_.push_back(id);
  }
}

KvBlockPool::Counts KvBlockPool::counts() const {
  const auto free = static_cast<uint32_t>(free_.size());
  return Counts{.free = free, .cached = 0, .owned = num_blocks() - free};
}

std::vector<std::string> KvBlockPool::CheckInvariants() const {
  std::vector<std::string> violations;
  std::vector<uint32_t> listed(owners_.size(), 0);
  for (uint32_t id : free_) {
    if (id >= owners_.size()) {
      violations.push_back(absl::StrFormat("free list holds block %u of %u", id, num_blocks()));
      continue;
    }
    if (++listed[id] == 2) violations.push_back(absl::StrFormat("block %u is free twice", id));
    if (owners_[id] != 0) violations.push_back(absl::StrFormat("block %u is free and owned", id));
  }
  const auto owned =
      std::count_if(owners_.begin(), owners_.end(), [](uint64_t o) { return o != 0; });
  const Counts sum = counts();
  if (owned != sum.owned || sum.free + sum.cached + sum.owned != num_blocks()) {
    violations.push_back(
        absl::StrFormat("%u free + %u cached + %u owned of %u blocks, %d have owners",
                        sum.free,
                        sum.cached,
                        sum.owned,
                        num_blocks(),
                        owned));
  }
  return violations;
}

}  // namespace phi::service
