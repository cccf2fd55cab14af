#include "service/worker/batching/kv_block_pool.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "kernels/base/check.h"

namespace phi::service {

KvBlockPool::KvBlockPool(uint32_t num_blocks)
    : references_(num_blocks, 0),
      free_(num_blocks),
      places_(num_blocks, unused_.end()),
      index_(num_blocks) {
  for (uint32_t i = 0; i < num_blocks; ++i) free_[i] = num_blocks - 1 - i;
}

std::optional<uint32_t> KvBlockPool::Acquire() {
  uint32_t block = 0;
  if (!free_.empty()) {
    block = free_.back();
    free_.pop_back();
  } else if (!unused_.empty()) {
    block = unused_.front();
    unused_.pop_front();
    index_.Erase(block);
  } else {
    return std::nullopt;
  }
  references_[block] = 1;
  return block;
}

void KvBlockPool::Share(std::span<const uint32_t> chain) {
  for (uint32_t block : chain) {
    PHI_CHECK(references_[block] > 0, "block %u is not owned", block);
    ++references_[block];
  }
}

void KvBlockPool::Release(std::span<const uint32_t> chain) {
  for (auto block = chain.rbegin(); block != chain.rend(); ++block) Drop(*block);
}

void KvBlockPool::Drop(uint32_t block) {
  PHI_CHECK(block < references_.size(), "block %u of %zu", block, references_.size());
  PHI_CHECK(references_[block] > 0, "block %u is not owned", block);
  if (--references_[block] > 0) return;
  if (index_.contains(block)) {
    places_[block] = unused_.insert(unused_.end(), block);
  } else {
    free_.push_back(block);
  }
}

std::optional<uint32_t> KvBlockPool::Find(uint32_t parent,
                                          BlockTokens tokens,
                                          std::string_view salt) {
  const std::optional<uint32_t> block = index_.Find(parent, tokens, salt);
  if (!block) return std::nullopt;
  if (references_[*block]++ == 0) unused_.erase(places_[*block]);
  return block;
}

uint32_t KvBlockPool::Publish(uint32_t block,
                              uint32_t parent,
                              BlockTokens tokens,
                              std::string_view salt) {
  PHI_CHECK(references_[block] > 0, "block %u is not owned", block);
  if (parent != PrefixIndex::kNoBlock && !index_.contains(parent)) return block;
  if (index_.contains(block)) return block;
  if (const std::optional<uint32_t> same = Find(parent, tokens, salt)) {
    Drop(block);
    return *same;
  }
  index_.Insert(block, parent, tokens, salt);
  return block;
}

void KvBlockPool::ForgetAll() {
  index_.Clear();
  free_.insert(free_.end(), unused_.begin(), unused_.end());
  unused_.clear();
}

KvBlockPool::Counts KvBlockPool::counts() const {
  const auto free = static_cast<uint32_t>(free_.size());
  const auto cached = static_cast<uint32_t>(unused_.size());
  return Counts{.free = free, .cached = cached, .owned = num_blocks() - free - cached};
}

std::vector<std::string> KvBlockPool::CheckInvariants() const {
  std::vector<std::string> violations;
  std::vector<uint32_t> listed(references_.size(), 0);
  for (uint32_t block : free_) {
    ++listed[block];
    if (index_.contains(block))
      violations.push_back(absl::StrFormat("free block %u has tokens", block));
  }
  for (uint32_t block : unused_) {
    ++listed[block];
    if (!index_.contains(block)) {
      violations.push_back(absl::StrFormat("cached block %u has no tokens", block));
      continue;
    }
    // The parent is used, or unused for less long: its turn to be evicted comes later.
    const uint32_t parent = index_.parent(block);
    if (parent != PrefixIndex::kNoBlock && listed[parent] > 0)
      violations.push_back(absl::StrFormat("block %u goes before its child %u", parent, block));
  }
  for (uint32_t block = 0; block < num_blocks(); ++block) {
    const bool owned = references_[block] > 0;
    if (listed[block] != (owned ? 0 : 1)) {
      violations.push_back(absl::StrFormat("block %u: %u references, %u times free or cached",
                                           block,
                                           references_[block],
                                           listed[block]));
    }
    if (!index_.contains(block) || index_.parent(block) == PrefixIndex::kNoBlock) continue;
    const uint32_t parent = index_.parent(block);
    if (!index_.contains(parent))
      violations.push_back(absl::StrFormat("block %u has no parent", block));
    if (owned && references_[parent] == 0)
      violations.push_back(absl::StrFormat("block %u is owned, its parent %u not", block, parent));
  }
  return violations;
}

}  // namespace phi::service
