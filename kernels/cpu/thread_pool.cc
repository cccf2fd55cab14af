#include "kernels/cpu/thread_pool.h"

#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <chrono>

#include "kernels/base/check.h"

namespace phi::kernels {
namespace {

constexpr std::chrono::microseconds kSpinTime(20);
constexpr int kPausesBetweenClockReads = 8;

// Returns once `value` differs from `old`; reads with acquire.
void WaitUntilChanged(const std::atomic<uint32_t>& value, uint32_t old) {
  const auto give_up = std::chrono::steady_clock::now() + kSpinTime;
  do {
    for (int i = 0; i < kPausesBetweenClockReads; ++i) {
      if (value.load(std::memory_order_acquire) != old) return;
      _mm_pause();
    }
  } while (std::chrono::steady_clock::now() < give_up);
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(int threads) : cursors_(static_cast<size_t>(threads)) {
  PHI_CHECK(threads >= 1, "%d threads", threads);
  workers_.reserve(static_cast<size_t>(threads) - 1);
  try {
    for (int thread = 1; thread < threads; ++thread) {
      workers_.emplace_back([this, thread] { Work(thread); });
    }
  } catch (...) {
    Stop();  // a std::thread must be joined before it is destroyed
    throw;
  }
}

ThreadPool::~ThreadPool() { Stop(); }

void ThreadPool::Stop() {
  region_ = nullptr;
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

Share ThreadPool::TakeRun(int owner, int64_t end, int64_t longest_run) {
  std::atomic<int64_t>& next = cursors_[static_cast<size_t>(owner)].next;
  int64_t first = next.load(std::memory_order_relaxed);
  int64_t length = 0;
  do {
    const auto left = static_cast<uint64_t>(end - first);
    length = std::min(longest_run, static_cast<int64_t>(std::bit_floor((left + 1) / 2)));
  } while (!next.compare_exchange_weak(first, first + length, std::memory_order_relaxed));
  return {first, first + length};
}

void ThreadPool::RunErased(ErasedRegion region, void* context) {
  region_ = region;
  context_ = context;
  running_.store(static_cast<uint32_t>(workers_.size()), std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  region(context, 0);
  for (uint32_t left; (left = running_.load(std::memory_order_acquire)) != 0;) {
    WaitUntilChanged(running_, left);
  }
}

void ThreadPool::Work(int thread) {
  for (uint32_t seen = 0;; ++seen) {
    WaitUntilChanged(generation_, seen);
    if (region_ == nullptr) return;
    region_(context_, thread);
    if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) running_.notify_one();
  }
}

}  // namespace phi::kernels
