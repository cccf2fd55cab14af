#pragma once

#include <atomic>
#include <cstdint>

namespace phi::shard {

// Where a rank stands, in memory shared with the supervisor: the rank writes, the supervisor reads,
// nobody waits. It is how a hung rank is named together with the collective it stands in.
struct RankProgress {
  enum Activity : uint32_t { kStarting = 0, kIdle = 1, kComputing = 2, kInCollective = 3 };

  std::atomic<uint32_t> activity{kStarting};
  std::atomic<uint64_t> steps_started{0};
  std::atomic<uint64_t> steps_finished{0};
  // Within the current step: collectives entered so far. The n-th is layer n's all-reduce, the last
  // is the gather.
  std::atomic<uint32_t> collective_index{0};
  std::atomic<int64_t> last_change_ns{
      0};  // CLOCK_MONOTONIC, at each change of steps_started or steps_finished
};
static_assert(std::atomic<uint64_t>::is_always_lock_free, "shared between processes");

}  // namespace phi::shard
