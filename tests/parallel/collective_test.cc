#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <future>
#include <random>
#include <thread>

#include "absl/time/clock.h"
#include "shard/collective/gloo_communicator.h"
#include "tests/parallel/rank_threads.h"

namespace phi::shard {
namespace {

using ::testing::HasSubstr;

// Values of very different magnitude, so that another order of summation shows.
std::vector<float> RankValues(int rank, size_t size) {
  std::mt19937 random(static_cast<uint32_t>(rank) * 7919 + static_cast<uint32_t>(size));
  std::vector<float> values(size);
  for (float& value : values) {
    value = std::ldexp(static_cast<float>(random()) / 4294967296.0F - 0.5F,
                       static_cast<int>(random() % 20));
  }
  return values;
}

std::vector<float> SumInRankOrder(int world_size, size_t size) {
  std::vector<float> sum = RankValues(0, size);
  for (int rank = 1; rank < world_size; ++rank) {
    const std::vector<float> values = RankValues(rank, size);
    for (size_t i = 0; i < size; ++i) sum[i] += values[i];
  }
  return sum;
}

class Collectives : public testing::TestWithParam<int> {};

// Both sides of each limit: one message, several, and the segmented exchange with its last, shorter
// part.
TEST_P(Collectives, SumsAreInRankOrderForEverySize) {
  const int world_size = GetParam();
  for (const size_t size : {size_t{0},
                            size_t{1},
                            size_t{8191},
                            size_t{8193},
                            size_t{16384},
                            size_t{16385},
                            size_t{50001},
                            size_t{200000}}) {
    const std::vector<float> expected = SumInRankOrder(world_size, size);
    RunRanks(world_size, [&](std::unique_ptr<Communicator> communicator) {
      std::vector<float> values = RankValues(communicator->rank(), size);
      const absl::Status status = communicator->AllReduceSum(values);
      ASSERT_TRUE(status.ok()) << status;
      EXPECT_TRUE(values == expected) << size << " on rank " << communicator->rank();
      EXPECT_EQ(communicator->stats().all_reduces, 1U);
    });
  }
}

// A row's sums are the same alone and among others, whichever exchange the size of the batch picks
// (I1).
TEST_P(Collectives, ASumDoesNotDependOnItsCompany) {
  constexpr size_t kRow = 2048;
  constexpr size_t kRows = 24;
  const int world_size = GetParam();
  RunRanks(world_size, [&](std::unique_ptr<Communicator> communicator) {
    const std::vector<float> values = RankValues(communicator->rank(), kRow * kRows);
    std::vector<float> together = values;
    ASSERT_TRUE(communicator->AllReduceSum(together).ok());
    for (size_t row = 0; row < kRows; ++row) {
      std::vector<float> alone(values.begin() + row * kRow, values.begin() + (row + 1) * kRow);
      ASSERT_TRUE(communicator->AllReduceSum(alone).ok());
      EXPECT_TRUE(std::equal(alone.begin(), alone.end(), together.begin() + row * kRow)) << row;
    }
  });
}

TEST_P(Collectives, GatherConcatenatesInRankOrder) {
  const int world_size = GetParam();
  std::vector<size_t> counts;
  std::vector<float> expected;
  for (int rank = 0; rank < world_size; ++rank) {
    counts.push_back(static_cast<size_t>(rank == 1 ? 0 : 9000 * (rank + 1) + 3));
    const std::vector<float> values = RankValues(rank, counts.back());
    expected.insert(expected.end(), values.begin(), values.end());
  }
  RunRanks(world_size, [&](std::unique_ptr<Communicator> communicator) {
    const int rank = communicator->rank();
    std::vector<float> received(rank == 0 ? expected.size() : 0);
    const absl::Status status = communicator->GatherToRoot(
        RankValues(rank, counts[static_cast<size_t>(rank)]), counts, received);
    ASSERT_TRUE(status.ok()) << status;
    if (rank == 0) {
      EXPECT_EQ(received, expected);
    }
    EXPECT_EQ(communicator->stats().gathers, 1U);
  });
}

INSTANTIATE_TEST_SUITE_P(WorldSizes, Collectives, testing::Values(1, 2, 3, 4, 7));

TEST(GlooCommunicator, ADeadRankIsUnavailableAtOnce) {
  RunRanks(3, [&](std::unique_ptr<Communicator> communicator) {
    std::vector<float> values(2048, 1.0F);
    ASSERT_TRUE(communicator->AllReduceSum(values).ok());
    if (communicator->rank() == 1) return;  // dies
    const absl::Time start = absl::Now();
    const absl::Status status = communicator->AllReduceSum(values);
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
    // Nothing is tried on a lost group.
    EXPECT_EQ(communicator->AllReduceSum(values), status);
    EXPECT_LT(absl::Now() - start, absl::Seconds(10));
  });
}

// The longest time for which this machine let no thread of ours run, while it lives.
class LongestGap {
 public:
  LongestGap() : ticker_([this] { Tick(); }) {}
  ~LongestGap() {
    over_ = true;
    ticker_.join();
  }
  LongestGap(const LongestGap&) = delete;
  LongestGap& operator=(const LongestGap&) = delete;
  absl::Duration get() const {
    return absl::Nanoseconds(std::max(longest_.load(), absl::GetCurrentTimeNanos() - last_));
  }

 private:
  void Tick() {
    while (!over_) {
      absl::SleepFor(absl::Milliseconds(5));
      const int64_t now = absl::GetCurrentTimeNanos();
      longest_ = std::max(longest_.load(), now - last_);
      last_ = now;
    }
  }

  std::atomic<int64_t> last_{absl::GetCurrentTimeNanos()};
  std::atomic<int64_t> longest_{0};  // in nanoseconds
  std::atomic<bool> over_{false};
  std::thread ticker_;
};

TEST(GlooCommunicator, AHungRankIsUnavailableAfterTheTimeout) {
  std::promise<void> verdict;
  RunRanks(
      2,
      [&](std::unique_ptr<Communicator> communicator) {
        std::vector<float> values(2048, 1.0F);
        ASSERT_TRUE(communicator->AllReduceSum(values).ok());
        if (communicator->rank() == 1) {
          verdict.get_future().wait_for(std::chrono::seconds(60));
          return;
        }
        const LongestGap stall;
        const absl::Time start = absl::Now();
        const absl::Status status = communicator->AllReduceSum(values);
        const absl::Duration took = absl::Now() - start - stall.get();
        verdict.set_value();
        EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
        EXPECT_LT(took, absl::Milliseconds(4200));
      },
      absl::Seconds(3));
}

TEST(GlooCommunicator, RanksThatNeverComeAreNamed) {
  const TemporaryDir store;
  const GlooOptions options{.store_dir = store.path(), .connect_timeout = absl::Milliseconds(100)};
  const absl::Status status = MakeGlooCommunicator(1, 4, options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("ranks 0 2 3 of 4"));
}

TEST(GlooCommunicator, RefusesARankOutsideTheGroup) {
  EXPECT_EQ(MakeGlooCommunicator(2, 2, {}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(MakeGlooCommunicator(0, 1, {}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(GlooCommunicator, AStoreThatIsNotThereIsAnError) {
  EXPECT_EQ(MakeGlooCommunicator(0, 2, {.store_dir = "/nowhere"}).status().code(),
            absl::StatusCode::kUnavailable);
}

// Not a check but a figure: what one decode step of Phi-1 pays 24 times.
TEST(GlooCommunicator, PrintsTheLatencyOfAnAllReduceOf8KiB) {
  constexpr int kRounds = 2000;
  RunRanks(2, [&](std::unique_ptr<Communicator> communicator) {
    std::vector<float> values(2048, 0.0F);
    for (int round = 0; round < kRounds; ++round)
      ASSERT_TRUE(communicator->AllReduceSum(values).ok());
    EXPECT_EQ(communicator->stats().bytes_sent, kRounds * 2048 * sizeof(float));
    if (communicator->rank() == 0) {
      std::printf("all-reduce of 8 KiB on 2 ranks: %.1f us\n",
                  communicator->stats().seconds / kRounds * 1e6);
    }
  });
}

}  // namespace
}  // namespace phi::shard
