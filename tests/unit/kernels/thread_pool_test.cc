#include "kernels/cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>
#include <vector>

namespace phi::kernels {
namespace {

class ThreadPoolTest : public testing::TestWithParam<int> {};

TEST_P(ThreadPoolTest, RunsEachMemberOnce) {
  ThreadPool pool(GetParam());
  ASSERT_EQ(pool.num_threads(), GetParam());
  std::vector<int> calls(static_cast<size_t>(GetParam()));
  pool.Run([&](int thread) { ++calls[static_cast<size_t>(thread)]; });
  for (const int count : calls) EXPECT_EQ(count, 1);
}

TEST_P(ThreadPoolTest, CallerTakesPart) {
  ThreadPool pool(GetParam());
  const std::thread::id caller = std::this_thread::get_id();
  std::atomic<bool> seen = false;
  pool.Run([&](int thread) {
    if (thread == 0) seen = std::this_thread::get_id() == caller;
  });
  EXPECT_TRUE(seen);
}

// Plain, unsynchronised values carried from region to region: ThreadSanitizer sees whether Run()
// orders them.
TEST_P(ThreadPoolTest, RegionsAreOrdered) {
  ThreadPool pool(GetParam());
  const auto members = static_cast<size_t>(GetParam());
  std::vector<int64_t> values(members, 1);
  std::vector<int64_t> next(members);
  for (int round = 0; round < 2000; ++round) {
    pool.Run([&](int thread) {
      next[static_cast<size_t>(thread)] =
          std::accumulate(values.begin(), values.end(), int64_t{0}) % 1000003;
    });
    pool.Run([&](int thread) {
      values[static_cast<size_t>(thread)] = next[static_cast<size_t>(thread)] + 1;
    });
  }
  for (const int64_t value : values) EXPECT_EQ(value, values[0]);
}

// Members that went to sleep have to wake.
TEST_P(ThreadPoolTest, WakesAfterAPause) {
  ThreadPool pool(GetParam());
  std::atomic<int> calls = 0;
  for (int round = 0; round < 10; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    pool.Run([&](int) { ++calls; });
  }
  EXPECT_EQ(calls, 10 * GetParam());
}

// A slow member makes the caller sleep too.
TEST_P(ThreadPoolTest, WaitsForTheSlowest) {
  ThreadPool pool(GetParam());
  std::atomic<int> finished = 0;
  pool.Run([&](int thread) {
    if (thread != 0) std::this_thread::sleep_for(std::chrono::milliseconds(5 * thread));
    ++finished;
  });
  EXPECT_EQ(finished, GetParam());
}

TEST_P(ThreadPoolTest, ForEachTakesEachIndexOnce) {
  ThreadPool pool(GetParam());
  for (const int64_t count : {0, 1, 2, 3, 100}) {
    std::vector<std::atomic<int>> taken(static_cast<size_t>(count));
    pool.ForEach(count, [&](int64_t index, int thread) {
      EXPECT_LT(thread, GetParam());
      ++taken[static_cast<size_t>(index)];
    });
    for (const auto& times : taken) EXPECT_EQ(times, 1);
  }
}

// Also when one thread does nothing for a while: the others take over its share.
TEST_P(ThreadPoolTest, ForSharesCoversOnce) {
  ThreadPool pool(GetParam());
  for (const int64_t count : {0, 1, 2, 3, 5, 64, 100, 1001}) {
    std::vector<std::atomic<int>> taken(static_cast<size_t>(count));
    std::atomic<bool> slept = false;
    pool.ForShares(count, 8, [&](int64_t first, int64_t end, int thread) {
      EXPECT_LT(thread, GetParam());
      EXPECT_LT(first, end);
      EXPECT_LE(end - first, 8);
      for (int64_t i = first; i < end; ++i) ++taken[static_cast<size_t>(i)];
      if (!slept.exchange(true)) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    });
    for (const auto& times : taken) EXPECT_EQ(times, 1);
  }
}

TEST(ShareTest, SharesCoverInOrder) {
  for (const int64_t count : {0, 1, 7, 896}) {
    for (const int threads : {1, 2, 3, 8}) {
      int64_t next = 0;
      for (int thread = 0; thread < threads; ++thread) {
        const Share share = ShareOf(count, thread, threads);
        EXPECT_EQ(share.first, next);
        EXPECT_LE(share.end - share.first, count / threads + 1);
        next = share.end;
      }
      EXPECT_EQ(next, count);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, ThreadPoolTest, testing::Values(1, 2, 3, 8));

// Two pools on the same cores, as two ranks have them: nobody may spin for long.
TEST(ThreadPoolsTest, ShareTheCores) {
  std::atomic<int64_t> calls = 0;
  const auto drive = [&] {
    ThreadPool pool(4);
    for (int round = 0; round < 500; ++round) pool.Run([&](int) { ++calls; });
  };
  std::thread other(drive);
  drive();
  other.join();
  EXPECT_EQ(calls, 2 * 500 * 4);
}

}  // namespace
}  // namespace phi::kernels
