#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "service/worker/batching/prefix_index.h"

namespace phi::service {

// Which blocks of the paged KV cache are in use, and the prefix cache in those that are not. Pure
// bookkeeping: the memory is the ranks' and a block id means the same place on each of them.
//
// I2: every block is free, or cached (nobody uses it, but its tokens are known and may come
// again), or owned by the sequences that hold a reference each; the counts add up after every call.
//
// A sequence holds the blocks of all its positions, in order: its chain. So whoever holds a block
// holds those before it too, and since chains are released last block first, the one that is unused
// for longest never has a cached child. Source: vLLM's and SGLang's prefix caches.
class KvBlockPool {
 public:
  struct Counts {
    uint32_t free = 0;
    uint32_t cached = 0;
    uint32_t owned = 0;
  };

  explicit KvBlockPool(uint32_t num_blocks);

  // A block with one reference: a free one, or else the cached one that is unused for longest,
  // which forgets its tokens. Nothing where all are owned.
  std::optional<uint32_t> Acquire();
  // One more reference to each; they are owned.
  void Share(std::span<const uint32_t> chain);
  // One reference less of each, last block first; at none the block is cached or free. Aborts on a
  // block without references: given back twice it would have two owners next.
  void Release(std::span<const uint32_t> chain);

  // The block that holds `tokens` after `parent` (PrefixIndex), with one more reference.
  std::optional<uint32_t> Find(uint32_t parent, BlockTokens tokens, std::string_view salt);
  // Makes an owned block, whose keys and values are computed, known by its content. Where another
  // one holds the same already, the reference moves there, so that equal prefixes are kept once;
  // the block that the caller holds from now on. Its parent has to be known too, else nothing
  // happens.
  uint32_t Publish(uint32_t block, uint32_t parent, BlockTokens tokens, std::string_view salt);
  // Forgets all tokens: what was computed is not to be trusted.
  void ForgetAll();

  uint32_t num_blocks() const { return static_cast<uint32_t>(references_.size()); }
  uint32_t references(uint32_t block) const { return references_[block]; }
  Counts counts() const;
  // What Acquire can give.
  uint32_t available() const { return static_cast<uint32_t>(free_.size() + unused_.size()); }

  // All violations of I2, in words; empty when it holds. O(num_blocks).
  std::vector<std::string> CheckInvariants() const;

 private:
  void Drop(uint32_t block);

  std::vector<uint32_t> references_;  // by block id
  std::vector<uint32_t> free_;        // a stack, so that warm blocks are used again first
  std::list<uint32_t> unused_;        // cached, the one unused for longest first
  std::vector<std::list<uint32_t>::iterator> places_;  // by block id: of cached ones in unused_
  PrefixIndex index_;
};

}  // namespace phi::service
