#include <gmock/gmock.h>
#include <nccl.h>
#include <unistd.h>

#include <functional>
#include <thread>

#include "tests/unit/cuda_host/device_fixture.h"

namespace phi::cuda_host {
namespace {

using testing::Each;

constexpr size_t kCount = 37;

struct RankContext {
  int rank;
  int num_ranks;
  ncclComm_t comm;
  cudaStream_t stream;
};

// Runs `body` once a rank, on a thread and a device of its own.
void RunRanks(int num_ranks, const std::function<void(const RankContext&)>& body) {
  ncclUniqueId id;
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  std::vector<std::jthread> threads;
  for (int rank = 0; rank < num_ranks; ++rank) {
    threads.emplace_back([&, rank] {
      ASSERT_EQ(cudaSetDevice(rank), cudaSuccess);
      RankContext context = {
          .rank = rank, .num_ranks = num_ranks, .comm = nullptr, .stream = nullptr};
      const Stream stream;
      context.stream = stream.get();
      ASSERT_EQ(ncclCommInitRank(&context.comm, num_ranks, id, rank), ncclSuccess);
      body(context);
      ASSERT_EQ(ncclCommDestroy(context.comm), ncclSuccess);
    });
  }
}

std::vector<float> Constant(int value) {
  return std::vector<float>(kCount, static_cast<float>(value));
}

class NcclTest : public DeviceTest {};

TEST_F(NcclTest, CollectivesDoWhatTheySay) {
  for (const int num_ranks : {1, 2, 4}) {
    RunRanks(num_ranks, [](const RankContext& self) {
      const DeviceArray<float> mine(Constant(self.rank + 1));
      const DeviceArray<float> sum(kCount);
      const DeviceArray<float> all(kCount * static_cast<size_t>(self.num_ranks));
      EXPECT_EQ(ncclAllReduce(
                    mine.data(), sum.data(), kCount, ncclFloat32, ncclSum, self.comm, self.stream),
                ncclSuccess);
      EXPECT_EQ(ncclAllGather(mine.data(), all.data(), kCount, ncclFloat32, self.comm, self.stream),
                ncclSuccess);
      EXPECT_EQ(cudaStreamSynchronize(self.stream), cudaSuccess);
      EXPECT_THAT(sum.Values(),
                  Each(static_cast<float>(self.num_ranks * (self.num_ranks + 1) / 2)));
      const std::vector<float> values = all.Values();
      for (size_t i = 0; i < values.size(); ++i) {
        EXPECT_EQ(values[i], static_cast<float>(i / kCount + 1));
      }
    });
  }
}

TEST_F(NcclTest, TransfersOfAGroupWaitForNoneOfIt) {
  RunRanks(3, [](const RankContext& self) {
    const DeviceArray<float> mine(Constant(self.rank));
    const DeviceArray<float> received(kCount);
    const int next = (self.rank + 1) % self.num_ranks;
    const int previous = (self.rank + self.num_ranks - 1) % self.num_ranks;
    EXPECT_EQ(ncclGroupStart(), ncclSuccess);
    EXPECT_EQ(ncclSend(mine.data(), kCount, ncclFloat32, next, self.comm, self.stream),
              ncclSuccess);
    EXPECT_EQ(ncclRecv(received.data(), kCount, ncclFloat32, previous, self.comm, self.stream),
              ncclSuccess);
    EXPECT_EQ(ncclGroupEnd(), ncclSuccess);
    EXPECT_EQ(cudaStreamSynchronize(self.stream), cudaSuccess);
    EXPECT_THAT(received.Values(), Each(static_cast<float>(previous)));
  });
}

TEST_F(NcclTest, CollectivesReplayInGraphs) {
  RunRanks(2, [](const RankContext& self) {
    const DeviceArray<float> data(Constant(1));
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    EXPECT_EQ(cudaStreamBeginCapture(self.stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    EXPECT_EQ(ncclAllReduce(
                  data.data(), data.data(), kCount, ncclFloat32, ncclSum, self.comm, self.stream),
              ncclSuccess);
    EXPECT_EQ(cudaStreamEndCapture(self.stream, &graph), cudaSuccess);
    EXPECT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(cudaGraphLaunch(executable, self.stream), cudaSuccess);
    }
    EXPECT_EQ(cudaStreamSynchronize(self.stream), cudaSuccess);
    EXPECT_THAT(data.Values(), Each(8.0F));
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    EXPECT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
  });
}

TEST_F(NcclTest, ACommunicatorDoesNotEndBeforeItsGraphs) {
  EXPECT_DEATH(
      RunRanks(
          2,
          [](const RankContext& self) {
            const DeviceArray<float> data(Constant(1));
            cudaGraph_t graph = nullptr;
            cudaStreamBeginCapture(self.stream, cudaStreamCaptureModeThreadLocal);
            ncclAllReduce(
                data.data(), data.data(), kCount, ncclFloat32, ncclSum, self.comm, self.stream);
            cudaStreamEndCapture(self.stream, &graph);
          }),
      "ncclCommDestroy of rank . waits for ever: a graph has its collectives");
}

TEST_F(NcclTest, ACommunicatorDoesNotEndAlone) {
  Configure({.deadlock_seconds = 2});
  EXPECT_DEATH(RunRanks(2,
                        [](const RankContext& self) {
                          while (self.rank == 1) sleep(1);
                        }),
               "NCCL deadlock in ncclCommDestroy: rank 0 waits in ncclCommDestroy; rank 1 is "
               "elsewhere");
}

// Rank 1 makes another call than rank 0.
void CallDifferently(
    const std::function<void(const RankContext&, const DeviceArray<float>&)>& odd) {
  RunRanks(2, [&](const RankContext& self) {
    const DeviceArray<float> data(2 * kCount);
    if (self.rank == 1) {
      odd(self, data);
    } else {
      ncclAllReduce(data.data(), data.data(), kCount, ncclFloat32, ncclSum, self.comm, self.stream);
    }
    cudaStreamSynchronize(self.stream);
  });
}

TEST_F(NcclTest, MismatchedCallsNameBoth) {
  EXPECT_DEATH(
      CallDifferently([](const RankContext& self, const DeviceArray<float>& data) {
        ncclAllReduce(
            data.data(), data.data(), kCount + 1, ncclFloat32, ncclSum, self.comm, self.stream);
      }),
      "mismatched collective, call #0 .* rank . calls ncclAllReduce\\(count 3[78].*, rank . "
      "ncclAllReduce\\(count 3[78]");
  EXPECT_DEATH(
      CallDifferently([](const RankContext& self, const DeviceArray<float>& data) {
        ncclAllReduce(
            data.data(), data.data(), kCount, ncclFloat16, ncclSum, self.comm, self.stream);
      }),
      "mismatched collective");
  EXPECT_DEATH(CallDifferently([](const RankContext& self, const DeviceArray<float>& data) {
                 ncclBroadcast(
                     data.data(), data.data(), kCount, ncclFloat32, 0, self.comm, self.stream);
               }),
               "mismatched collective");
}

TEST_F(NcclTest, RankThatNeverComesIsADeadlockWithAReport) {
  Configure({.deadlock_seconds = 4});
  EXPECT_DEATH(
      CallDifferently([](const RankContext& /*self*/, const DeviceArray<float>& /*data*/) {
        while (true) sleep(1);
      }),
      "NCCL deadlock after .*rank 0 waits in ncclAllReduce.* #0; rank 1 is elsewhere after "
      "0 collectives");
}

TEST_F(NcclTest, ErrorsAreInjected) {
  ncclUniqueId id;
  FailCall("ncclGetUniqueId", 1, ncclSystemError);
  EXPECT_EQ(ncclGetUniqueId(&id), ncclSystemError);
  // An asynchronous error: the collective stays where it is until the communicator is aborted.
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  ncclComm_t comm = nullptr;
  ASSERT_EQ(ncclCommInitRank(&comm, 1, id, 0), ncclSuccess);
  const Stream stream;
  const DeviceArray<float> data(Constant(1));
  FailCall("ncclAsync", 1, ncclRemoteError);
  EXPECT_EQ(
      ncclAllReduce(data.data(), data.data(), kCount, ncclFloat32, ncclSum, comm, stream.get()),
      ncclSuccess);
  EXPECT_EQ(cudaStreamQuery(stream.get()), cudaErrorNotReady);
  ncclResult_t error = ncclSuccess;
  EXPECT_EQ(ncclCommGetAsyncError(comm, &error), ncclSuccess);
  EXPECT_EQ(error, ncclRemoteError);
  EXPECT_EQ(ncclCommAbort(comm), ncclSuccess);
  stream.Wait();
}

TEST_F(NcclTest, TwoRanksOnOneDeviceAreRefused) {
  ncclUniqueId id;
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  std::vector<std::jthread> threads;
  for (int rank = 0; rank < 2; ++rank) {
    threads.emplace_back([&, rank] {
      ncclComm_t comm = nullptr;
      EXPECT_EQ(ncclCommInitRank(&comm, 2, id, rank), ncclInvalidUsage);
    });
  }
}

}  // namespace
}  // namespace phi::cuda_host
