#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "shard/rank_progress.h"

namespace phi::service {

inline constexpr int kMaxRanks = 64;

// What one rank tells the supervisor. Moments are CLOCK_MONOTONIC nanoseconds, 0 = not yet.
struct alignas(64) RankSlot {
  shard::RankProgress progress;
  std::atomic<int64_t> started_ns{0};
  std::atomic<int64_t> connecting_ns{0};  // the device is open, the other ranks are waited for
  std::atomic<int64_t> connected_ns{0};
  std::atomic<int64_t> loaded_ns{0};               // weights packed, all memory taken
  std::atomic<double> step_collective_seconds{0};  // inside collectives, in the last step
};

// One group's page of shared memory: ranks write, the supervisor reads, nobody waits. Each epoch
// has a new one, so that a rank which wakes up after its group was replaced writes where nobody
// looks.
struct GroupPage {
  std::atomic<int64_t> serving_ns{0};  // the warm-up is done on every rank and the port is open
  std::array<RankSlot, kMaxRanks> ranks;

  bool AllLoaded(int world_size) const;
};

int64_t MonotonicNanos();

// The page behind a memfd that children inherit.
class SharedGroupPage {
 public:
  static absl::StatusOr<SharedGroupPage> Create();
  // The same page in a child; takes ownership of `fd`.
  static absl::StatusOr<SharedGroupPage> Attach(int fd);
  SharedGroupPage(SharedGroupPage&& other) noexcept;
  SharedGroupPage& operator=(SharedGroupPage&&) = delete;
  ~SharedGroupPage();

  int fd() const { return fd_; }
  GroupPage* operator->() const { return page_; }
  GroupPage& operator*() const { return *page_; }

 private:
  SharedGroupPage(int fd, GroupPage* page) : fd_(fd), page_(page) {}

  int fd_ = -1;
  GroupPage* page_ = nullptr;
};

}  // namespace phi::service
