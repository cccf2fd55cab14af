// The collectives of ranks on CUDA as suites and programs make them: with batch_invariant sums are
// in rank order to the bit, without it within rounding; shares of any size come to rank 0.
#include <gtest/gtest.h>

#include <barrier>
#include <cmath>
#include <functional>
#include <numeric>
#include <random>
#include <thread>

#include "tests/parallel/rank_kinds.h"
#include "tests/parallel/rank_threads.h"

namespace phi::shard {
namespace {

struct CollectiveCase {
  bool rank_order;
  int world_size;
};

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

class DeviceCollectives : public testing::TestWithParam<CollectiveCase> {
 protected:
  void SetUp() override {
    if (GetParam().world_size > MostRanks()) GTEST_SKIP() << MostRanks() << " devices";
  }

  static RankKind Kind() {
    const kernels::DType dtype = kernels::DType::kFloat32;
    return GetParam().rank_order ? InvariantRanks(dtype).front() : DefaultRanks(dtype);
  }

  // Calls `body` with each rank's parts and `send` on its device, once all ranks have theirs; none
  // goes before all have returned.
  static void ForEachRank(
      size_t size,
      const std::function<void(int rank, RankParts& parts, std::span<float> send)>& body) {
    const int world_size = GetParam().world_size;
    const TemporaryDir store;
    const RankMaker make = Kind().maker(1);
    std::barrier all_ranks(world_size);
    std::vector<std::jthread> threads;
    threads.reserve(static_cast<size_t>(world_size));
    for (int rank = 0; rank < world_size; ++rank) {
      threads.emplace_back([&, rank] {
        RankParts parts = make({.rank = rank, .world_size = world_size, .store_dir = store.path()});
        const auto buffer = parts.backend->UploadFloats(RankValues(rank, size));
        EXPECT_TRUE(buffer.ok()) << buffer.status();
        all_ranks.arrive_and_wait();
        body(rank, parts, {reinterpret_cast<float*>((*buffer)->data()), size});
        all_ranks.arrive_and_wait();
        parts.communicator.reset();
      });
    }
  }

  static std::vector<float> ToHost(RankParts& parts, std::span<const float> values) {
    std::vector<float> host(values.size());
    const absl::Status status =
        parts.backend->CopyToHost(host.data(), values.data(), values.size_bytes());
    EXPECT_TRUE(status.ok()) << status;
    return host;
  }
};

// Both sides of what NCCL changes its protocol at.
TEST_P(DeviceCollectives, AllReduceSums) {
  const auto [rank_order, world_size] = GetParam();
  for (const size_t size : {size_t{1}, size_t{37}, size_t{2048}, size_t{200'000}}) {
    std::vector<float> expected(size);
    std::vector<double> exact(size);
    std::vector<double> magnitudes(size);
    for (int rank = 0; rank < world_size; ++rank) {
      const std::vector<float> values = RankValues(rank, size);
      for (size_t i = 0; i < size; ++i) {
        expected[i] += values[i];
        exact[i] += static_cast<double>(values[i]);
        magnitudes[i] += std::abs(static_cast<double>(values[i]));
      }
    }
    // N. Higham, "Accuracy and Stability of Numerical Algorithms", section 4.2: whatever the order.
    const double roundings = (world_size - 1) * 0x1p-24;
    ForEachRank(size,
                [&, rank_order = rank_order](int rank, RankParts& parts, std::span<float> data) {
                  ASSERT_TRUE(parts.communicator->AllReduceSum(data).ok());
                  const std::vector<float> sums = ToHost(parts, data);
                  if (rank_order) {
                    EXPECT_TRUE(sums == expected) << size << " on rank " << rank;
                  }
                  for (size_t i = 0; i < size; ++i) {
                    ASSERT_LE(std::abs(static_cast<double>(sums[i]) - exact[i]),
                              roundings / (1 - roundings) * magnitudes[i])
                        << "value " << i << " of " << size << " on rank " << rank;
                  }
                });
  }
}

TEST_P(DeviceCollectives, GatherConcatenatesInRankOrder) {
  std::vector<size_t> counts(static_cast<size_t>(GetParam().world_size));
  for (size_t rank = 0; rank < counts.size(); ++rank) {
    counts[rank] = rank == 1 ? 0 : size_t{30'003} >> rank;
  }
  const size_t total = std::accumulate(counts.begin(), counts.end(), size_t{0});
  std::vector<float> expected;
  for (int rank = 0; rank < GetParam().world_size; ++rank) {
    const std::vector<float> values = RankValues(rank, total);
    const auto count = static_cast<ptrdiff_t>(counts[static_cast<size_t>(rank)]);
    expected.insert(expected.end(), values.begin(), values.begin() + count);
  }
  ForEachRank(total, [&](int rank, RankParts& parts, std::span<float> data) {
    // Rank 0's share lies where it goes, as logits do.
    const std::span<float> send = data.first(counts[static_cast<size_t>(rank)]);
    ASSERT_TRUE(parts.communicator->GatherToRoot(send, counts, data).ok());
    EXPECT_EQ(ToHost(parts, data), rank == 0 ? expected : RankValues(rank, total));
  });
}

std::vector<CollectiveCase> AllCases() {
  std::vector<CollectiveCase> cases;
  for (const int world_size : {1, 2, 3, 4, 8}) {
    for (const bool rank_order : {false, true}) cases.push_back({rank_order, world_size});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(All,
                         DeviceCollectives,
                         testing::ValuesIn(AllCases()),
                         [](const testing::TestParamInfo<CollectiveCase>& test) {
                           return std::to_string(test.param.world_size) +
                                  (test.param.rank_order ? "_ranks_in_order" : "_ranks");
                         });

}  // namespace
}  // namespace phi::shard
