#include "shard/collective/nccl_communicator.h"

#include <gmock/gmock.h>
#include <nccl.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <memory>
#include <thread>

#include "tests/unit/cuda_host/device_fixture.h"

// The communicator as ranks use it, over the harness's NCCL: its threads are the ranks' processes.
namespace phi::shard {
namespace {

using cuda_host::Configure;
using cuda_host::DeviceArray;
using cuda_host::FailCall;
using testing::Each;
using testing::ElementsAre;

constexpr size_t kCount = 37;

struct RankPlace {
  int rank;
  int world_size;
  kernels::CudaBackend& backend;
  Communicator& communicator;
};

// Runs `body` once a rank, on a thread and a device of its own.
void RunRanks(int world_size,
              NcclOptions options,
              const std::function<void(const RankPlace&)>& body) {
  options.destroy_together = true;
  const auto id = MakeNcclUniqueId();
  ASSERT_TRUE(id.ok()) << id.status();
  std::vector<std::jthread> threads;
  threads.reserve(static_cast<size_t>(world_size));
  for (int rank = 0; rank < world_size; ++rank) {
    threads.emplace_back([&, rank] {
      auto backend = kernels::MakeCudaBackend({.device = rank, .dtype = kernels::DType::kFloat32});
      ASSERT_TRUE(backend.ok()) << backend.status();
      auto communicator = MakeNcclCommunicator(rank, world_size, *id, **backend, options);
      ASSERT_TRUE(communicator.ok()) << communicator.status();
      body({rank, world_size, **backend, **communicator});
    });
  }
}

std::vector<float> Constant(size_t count, int value) {
  return std::vector<float>(count, static_cast<float>(value));
}

class NcclCommunicatorTest : public cuda_host::DeviceTest {};

TEST_F(NcclCommunicatorTest, SumsOverAllRanksInBothWays) {
  for (const bool rank_order : {false, true}) {
    for (const int world_size : {1, 2, 4}) {
      RunRanks(world_size, {.rank_order = rank_order, .max_values = kCount}, [](RankPlace self) {
        const DeviceArray<float> data(Constant(kCount, self.rank + 1));
        for (int i = 0; i < 2; ++i)
          ASSERT_TRUE(self.communicator.AllReduceSum({data.data(), kCount}).ok());
        ASSERT_TRUE(self.backend.WaitForStream().ok());
        const int once = self.world_size * (self.world_size + 1) / 2;
        EXPECT_THAT(data.Values(), Each(static_cast<float>(once * self.world_size)));
        EXPECT_EQ(self.communicator.stats().all_reduces, 2U);
      });
    }
  }
}

// I1: 1e8 swallows a 1 that is added to it, so the order shows.
TEST_F(NcclCommunicatorTest, BatchInvariantSumsAreInRankOrder) {
  RunRanks(4, {.rank_order = true, .max_values = kCount}, [](RankPlace self) {
    constexpr float kValues[] = {1, 1e8F, -1e8F, 1};
    const DeviceArray<float> data(std::vector<float>(kCount, kValues[self.rank]));
    ASSERT_TRUE(self.communicator.AllReduceSum({data.data(), kCount}).ok());
    ASSERT_TRUE(self.backend.WaitForStream().ok());
    EXPECT_THAT(data.Values(), Each(1.0F)) << "((1 + 1e8) - 1e8) + 1 in float32";
  });
}

TEST_F(NcclCommunicatorTest, GathersUnevenSharesAtTheRoot) {
  RunRanks(4, {}, [](RankPlace self) {
    const std::vector<size_t> counts = {2, 0, 3, 1};
    const size_t mine = counts[static_cast<size_t>(self.rank)];
    const DeviceArray<float> send(Constant(mine + 1, self.rank));
    const DeviceArray<float> receive(Constant(6, -1));
    ASSERT_TRUE(
        self.communicator.GatherToRoot({send.data(), mine}, counts, {receive.data(), 6}).ok());
    ASSERT_TRUE(self.backend.WaitForStream().ok());
    if (self.rank == 0) {
      EXPECT_THAT(receive.Values(), ElementsAre(0, 0, 2, 2, 2, 3));
    } else {
      EXPECT_THAT(receive.Values(), Each(-1.0F));
    }
  });
}

// Rank 1 sums `count` values where the others sum kCount; 0: it does not come.
void SumUnequally(size_t count) {
  RunRanks(2, {}, [&](RankPlace self) {
    const DeviceArray<float> data(Constant(2 * kCount, 1));
    const size_t mine = self.rank == 1 ? count : kCount;
    if (mine > 0) {
      EXPECT_TRUE(self.communicator.AllReduceSum({data.data(), mine}).ok());
    }
    EXPECT_TRUE(self.backend.WaitForStream().ok());
  });
}

TEST_F(NcclCommunicatorTest, UnequalCallsAreFoundByTheHarness) {
  EXPECT_DEATH(SumUnequally(kCount + 1), "mismatched collective, call #0");
}

TEST_F(NcclCommunicatorTest, APeerThatNeverComesIsWaitedFor) {
  Configure({.deadlock_seconds = 4});
  EXPECT_DEATH(SumUnequally(0), "NCCL deadlock.*rank 0 waits in ncclAllReduce");
}

// A rank as a process that ends: what NCCL has lost is not taken down in order.
void EndAfterAnAsynchronousError() {
  RunRanks(1 + 1, {}, [&](RankPlace self) {
    if (self.rank == 0) FailCall("ncclAsync", 1, ncclRemoteError);
    const DeviceArray<float> data(Constant(kCount, 1));
    const absl::Status queued = self.communicator.AllReduceSum({data.data(), kCount});
    const absl::Status waited = self.backend.WaitForStream();
    if (!queued.ok() || absl::IsUnavailable(waited)) {
      const absl::Status again = self.communicator.AllReduceSum({data.data(), kCount});
      const bool lost = absl::IsUnavailable(self.backend.FinishStep());
      std::fprintf(stderr, "%s\n", std::string(waited.message()).c_str());
      _exit(again.ok() || !lost ? 2 : 0);
    }
  });
  _exit(1);
}

TEST_F(NcclCommunicatorTest, AnAsynchronousErrorEndsTheWaitAndTheGroup) {
  EXPECT_EXIT(EndAfterAnAsynchronousError(), testing::ExitedWithCode(0), "NCCL lost a rank");
}

// Rank 0 waits for what rank 1 never sends. The stand-in of the runtime, like the real one, waits
// for a copy to pageable memory before it returns.
void EndWhileCopyingToTheHost() {
  RunRanks(1 + 1, {}, [&](RankPlace self) {
    while (self.rank == 1) sleep(1);
    FailCall("ncclAsync", 1, ncclRemoteError);
    const DeviceArray<float> send(Constant(kCount, 1));
    const DeviceArray<float> receive(2 * kCount);
    std::vector<float> host(2 * kCount);
    const absl::Status queued = self.communicator.GatherToRoot(
        {send.data(), kCount}, std::vector<size_t>(2, kCount), {receive.data(), 2 * kCount});
    const absl::Status copied =
        self.backend.CopyToHost(host.data(), receive.data(), host.size() * sizeof(float));
    std::fprintf(stderr, "%s\n", std::string(copied.message()).c_str());
    _exit(queued.ok() && absl::IsUnavailable(copied) ? 0 : 2);
  });
}

TEST_F(NcclCommunicatorTest, AnAsynchronousErrorEndsACopyToTheHost) {
  EXPECT_EXIT(EndWhileCopyingToTheHost(), testing::ExitedWithCode(0), "NCCL lost a rank");
}

TEST_F(NcclCommunicatorTest, WhatCannotBeJoinedIsRefused) {
  auto backend = kernels::MakeCudaBackend({.dtype = kernels::DType::kFloat32});
  ASSERT_TRUE(backend.ok()) << backend.status();
  const auto code = [&](int rank, int world_size, const std::string& id) {
    return MakeNcclCommunicator(rank, world_size, id, **backend, {}).status().code();
  };
  const std::string id = *MakeNcclUniqueId();
  EXPECT_EQ(code(2, 2, id), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(-1, 2, id), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(0, 2, id.substr(1)), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(0, 2, ""), absl::StatusCode::kInvalidArgument);
  FailCall("ncclCommInitRank", 1, ncclSystemError);
  EXPECT_EQ(code(0, 2, id), absl::StatusCode::kUnavailable);
  FailCall("ncclGetUniqueId", 1, ncclSystemError);
  EXPECT_EQ(MakeNcclUniqueId().status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(NcclCommunicatorTest, RanksMeetOnLoopbackAlone) {
  ASSERT_TRUE(MakeNcclUniqueId().ok());
  EXPECT_STREQ(std::getenv("NCCL_SOCKET_IFNAME"), "lo");
  EXPECT_STREQ(std::getenv("NCCL_RAS_ENABLE"), "0") << "a port of NCCL's own";
}

}  // namespace
}  // namespace phi::shard
