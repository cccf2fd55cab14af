#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace phi::service {

// Which request owns which block of the paged KV cache. Pure bookkeeping: the memory is the ranks'
// and a block id means the same place on each of them.
//
// I2 (one owner): every block is free, or cached, or owned by one request, and the counts add up
// after every call. Blocks become cached with the prefix cache; until then `cached` is 0 at all
// times.
class KvBlockPool {
 public:
  struct Counts {
    uint32_t free = 0;
    uint32_t cached = 0;
    uint32_t owned = 0;
  };

  explicit KvBlockPool(uint32_t num_blocks);

  // `count` blocks for `owner` (not 0), or nothing at all where fewer are free.
  std::optional<std::vector<uint32_t>> Acquire(uint64_t owner, uint32_t count);
  // Aborts where `owner` does not own one of them: a block given back twice would have two owners
  // next.
  void Release(uint64_t owner, std::span<const uint32_t> block_ids);

  uint32_t num_blocks() const { return static_cast<uint32_t>(owners_.size()); }
  Counts counts() const;
  // 0 for a free block.
  uint64_t owner(uint32_t block_id) const { return owners_[block_id]; }

  // All violations of I2, in words; empty when it holds. O(num_blocks).
  std::vector<std::string> CheckInvariants() const;

 private:
  std::vector<uint64_t> owners_;  // by block id; 0 = free
  std::vector<uint32_t> free_;    // a stack, so that warm blocks are used again first
};

}  // namespace phi::service
