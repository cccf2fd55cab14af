#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/hash/hash.h"
#include "kernels/backend.h"

namespace phi::service {

// The token ids of one full KV block.
using BlockTokens = std::span<const uint32_t, kernels::kKvBlockTokens>;

// Which KV block holds the keys and values of which tokens: full blocks by their content, which is
// all tokens from position 0 on. An entry names its parent, the block before it, so that equal
// chains are equal prefixes; tokens are compared one by one, a hash alone never decides. Chains of
// different salts never meet. One entry a block at most (I6).
//
// A parent's entry must outlive its children's: the pool sees to it.
class PrefixIndex {
 public:
  // The parent of a prefix's first block.
  static constexpr uint32_t kNoBlock = 0xFFFFFFFF;

  explicit PrefixIndex(uint32_t num_blocks) : entries_(num_blocks), num_children_(num_blocks) {}

  // The block that holds `tokens` after `parent`. `salt` counts for first blocks only; the others
  // have their parent's.
  std::optional<uint32_t> Find(uint32_t parent, BlockTokens tokens, std::string_view salt) const;
  // `block` has no entry, its content none either; a parent has one.
  void Insert(uint32_t block, uint32_t parent, BlockTokens tokens, std::string_view salt);
  // `block` has an entry that is no entry's parent.
  void Erase(uint32_t block);
  void Clear();

  bool contains(uint32_t block) const { return entries_[block] != nullptr; }
  // kNoBlock for a first block; `block` has an entry.
  uint32_t parent(uint32_t block) const { return entries_[block]->parent; }
  size_t size() const { return blocks_.size(); }

 private:
  struct Key {
    uint32_t parent = kNoBlock;
    std::array<uint32_t, kernels::kKvBlockTokens> tokens = {};
    std::string salt;

    friend bool operator==(const Key&, const Key&) = default;
    // absl's hash starts from a random seed in each process, so that no caller can aim at a bucket.
    template <typename H>
    friend H AbslHashValue(H hash, const Key& key) {
      return H::combine(std::move(hash), key.parent, key.tokens, key.salt);
    }
  };
  static Key MakeKey(uint32_t parent, BlockTokens tokens, std::string_view salt);

  std::unordered_map<Key, uint32_t, absl::Hash<Key>> blocks_;
  std::vector<const Key*> entries_;     // by block id, into blocks_; null without an entry
  std::vector<uint32_t> num_children_;  // by block id
};

}  // namespace phi::service
