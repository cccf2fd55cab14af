#include "service/worker/batching/prefix_index.h"

#include <algorithm>

#include "kernels/base/check.h"

namespace phi::service {

PrefixIndex::Key PrefixIndex::MakeKey(uint32_t parent, BlockTokens tokens, std::string_view salt) {
  Key key;
  key.parent = parent;
  std::copy(tokens.begin(), tokens.end(), key.tokens.begin());
  if (parent == kNoBlock) key.salt = salt;
  return key;
}

std::optional<uint32_t> PrefixIndex::Find(uint32_t parent,
                                          BlockTokens tokens,
                                          std::string_view salt) const {
  const auto found = blocks_.find(MakeKey(parent, tokens, salt));
  if (found == blocks_.end()) return std::nullopt;
  return found->second;
}

void PrefixIndex::Insert(uint32_t block,
                         uint32_t parent,
                         BlockTokens tokens,
                         std::string_view salt) {
  PHI_CHECK(!contains(block), "block %u has an entry", block);
  PHI_CHECK(parent == kNoBlock || contains(parent), "block %u: no parent %u", block, parent);
  const auto [entry, inserted] = blocks_.emplace(MakeKey(parent, tokens, salt), block);
  PHI_CHECK(inserted, "blocks %u and %u hold the same tokens", block, entry->second);
  entries_[block] = &entry->first;
  if (parent != kNoBlock) ++num_children_[parent];
}

void PrefixIndex::Erase(uint32_t block) {
  PHI_CHECK(contains(block), "block %u has no entry", block);
  PHI_CHECK(num_children_[block] == 0, "block %u has %u children", block, num_children_[block]);
  if (parent(block) != kNoBlock) --num_children_[parent(block)];
  const Key key = *entries_[block];  // its own goes with the element
  entries_[block] = nullptr;
  blocks_.erase(key);
}

void PrefixIndex::Clear() {
  blocks_.clear();
  std::fill(entries_.begin(), entries_.end(), nullptr);
  std::fill(num_children_.begin(), num_children_.end(), 0U);
}

}  // namespace phi::service
