// Which KV blocks the scheduler's sequences have: from the prefix cache, free ones, a sibling's
// copy, or those that a younger sequence gives up.
#include <algorithm>
#include <utility>

#include "kernels/backend.h"
#include "service/worker/scheduler.h"

namespace phi::service {
namespace {

constexpr uint32_t kBlock = kernels::kKvBlockTokens;

BlockTokens TokensOfBlock(const Sequence& sequence, size_t index) {
  return std::span(sequence.tokens).subspan(index * kBlock).first<kBlock>();
}

uint32_t ParentOfBlock(const Sequence& sequence, size_t index) {
  return index == 0 ? PrefixIndex::kNoBlock : sequence.block_ids[index - 1];
}

}  // namespace

bool Scheduler::TakeBlocks(Sequence& sequence) {
  std::vector<uint32_t>& blocks = sequence.block_ids;
  while (const std::optional<uint32_t> block = FindBlock(sequence, blocks.size()))
    blocks.push_back(*block);
  const auto num_hits = static_cast<uint32_t>(blocks.size());
  const uint32_t num_blocks = BlocksFor(sequence.tokens.size());
  // A next block is left for each that runs, so that they need not take these back at once.
  const size_t needed = num_blocks - num_hits + running_.size();
  if (pool_.available() < needed) {
    pool_.Release(blocks);
    blocks.clear();
    return false;
  }
  while (blocks.size() < num_blocks) blocks.push_back(*pool_.Acquire());
  NoteHits(sequence, num_hits);
  return true;
}

std::optional<uint32_t> Scheduler::FindBlock(const Sequence& sequence, size_t index) {
  if (!limits_.prefix_cache || (index + 1) * kBlock >= sequence.tokens.size()) return std::nullopt;
  return pool_.Find(ParentOfBlock(sequence, index),
                    TokensOfBlock(sequence, index),
                    sequence.owner->request.cache_salt);
}

void Scheduler::NoteHits(Sequence& sequence, uint32_t num_blocks) {
  const uint32_t num_tokens = num_blocks * kBlock;
  if (sequence.num_computed_before == 0) {
    sequence.owner->times.cached_prompt_tokens += num_tokens;
    counts_.prefix_hit_tokens += num_tokens;
  }
  sequence.num_computed += num_tokens;
}

void Scheduler::SkipCached(Sequence& sequence) {
  while (sequence.num_computed % kBlock == 0) {
    const size_t index = sequence.num_computed / kBlock;
    const std::optional<uint32_t> block = FindBlock(sequence, index);
    if (!block) return;
    pool_.Release({&sequence.block_ids[index], 1});
    sequence.block_ids[index] = *block;
    NoteHits(sequence, 1);
  }
}

bool Scheduler::TakeNextBlock(Sequence& sequence, StepWork& work) {
  const size_t index = sequence.num_computed / kBlock;
  std::vector<uint32_t>& blocks = sequence.block_ids;
  while (index == blocks.size() || pool_.references(blocks[index]) > 1) {
    if (const std::optional<uint32_t> block = pool_.Acquire()) {
      if (index == blocks.size()) {
        blocks.push_back(*block);
      } else {
        // Its siblings share the source, are planned after it, and the last one keeps it: nobody
        // else is given it in this step.
        const uint32_t shared = std::exchange(blocks[index], *block);
        work.plan.block_copies.push_back({.from = shared, .to = *block});
        pool_.Release({&shared, 1});
      }
      return true;
    }
    const bool itself = running_.back().get() == &sequence;
    PreemptYoungest();
    if (itself) return false;
  }
  return true;
}

void Scheduler::PreemptYoungest() {
  std::unique_ptr<Sequence> youngest = std::move(running_.back());
  running_.pop_back();
  LoseBlocks(*youngest);
  InsertByAge(std::move(youngest), preempted_);
  ++counts_.preemptions;
}

void Scheduler::LoseBlocks(Sequence& sequence) {
  pool_.Release(sequence.block_ids);
  sequence.block_ids.clear();
  sequence.num_computed_before = std::max(sequence.num_computed_before, sequence.num_computed);
  sequence.num_computed = 0;
}

void Scheduler::PublishBlocks(Sequence& sequence, uint32_t end) {
  if (!limits_.prefix_cache) return;
  for (size_t i = sequence.num_computed / kBlock; i < end / kBlock; ++i) {
    sequence.block_ids[i] = pool_.Publish(sequence.block_ids[i],
                                          ParentOfBlock(sequence, i),
                                          TokensOfBlock(sequence, i),
                                          sequence.owner->request.cache_salt);
  }
}

}  // namespace phi::service
