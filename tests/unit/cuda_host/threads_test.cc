#include <gmock/gmock.h>

#include "tests/unit/cuda_host/device_fixture.h"
#include "tests/unit/cuda_host/probe_kernels.h"

// ThreadSanitizer's reports end the process, so that a death test sees them.
extern "C" const char* __tsan_default_options() { return "halt_on_error=1"; }

namespace phi::cuda_host {
namespace {

using testing::ElementsAreArray;

constexpr int kCount = 128;
constexpr float kSum = kCount * (kCount + 1) / 2;

class ThreadsTest : public DeviceTest {};

float Sum(Bug bug, uint64_t seed) {
  Configure({.seed = seed});
  const Stream stream;
  const DeviceArray<float> in(Numbers(kCount));
  const DeviceArray<float> out(1);
  EXPECT_EQ(LaunchSum(bug, in.data(), kCount, out.data(), stream.get()), cudaSuccess);
  stream.Wait();
  return out.Values()[0];
}

std::vector<float> Copy(Bug bug, uint64_t seed) {
  Configure({.seed = seed});
  const Stream stream;
  const DeviceArray<float> in(Numbers(kCount));
  const DeviceArray<float> out(kCount);
  EXPECT_EQ(LaunchCopy(bug, in.data(), kCount, out.data(), stream.get()), cudaSuccess);
  stream.Wait();
  return out.Values();
}

TEST_F(ThreadsTest, RightKernelsAreRightInEveryOrder) {
  for (uint64_t seed = 1; seed <= kNumSeeds; ++seed) {
    EXPECT_EQ(Sum(Bug::kNone, seed), kSum) << "seed " << seed;
    EXPECT_THAT(Copy(Bug::kNone, seed), ElementsAreArray(Numbers(kCount))) << "seed " << seed;
  }
}

TEST_F(ThreadsTest, WarpOperationsGiveWhatTheGuideSays) {
  const Stream stream;
  const DeviceArray<int> out(32 * kWarpResults);
  ASSERT_EQ(LaunchWarpOperations(out.data(), stream.get()), cudaSuccess);
  stream.Wait();
  const std::vector<int> values = out.Values();
  int thirds = 0;
  for (int lane = 0; lane < 32; lane += 3) thirds |= static_cast<int>(1U << lane);
  for (int lane = 0; lane < 32; ++lane) {
    SCOPED_TRACE(lane);
    const int* const mine = &values[static_cast<size_t>(lane * kWarpResults)];
    EXPECT_EQ(mine[0], 3);
    EXPECT_EQ(mine[1], lane < 2 ? lane : lane - 2);
    EXPECT_EQ(mine[2], lane % 16 < 12 ? lane + 4 : lane);
    EXPECT_EQ(mine[3], lane ^ 1);
    EXPECT_EQ(mine[4], thirds);
    EXPECT_EQ(mine[5], 1);
    EXPECT_EQ(mine[6], 31 * 32 / 2 + 31);
    EXPECT_EQ(mine[7], lane < 16 ? 15 : 16);
  }
}

// Small integers, exact in both types, so that any order of the sum gives the same.
TEST_F(ThreadsTest, MmaMultipliesMatrices) {
  for (const bool bfloat16 : {true, false}) {
    // 1 + (i mod 7) by its bits: these are the first integers of either type.
    const uint16_t bits_bf16[] = {0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0};
    const uint16_t bits_half[] = {0x3c00, 0x4000, 0x4200, 0x4400, 0x4500, 0x4600, 0x4700};
    const uint16_t* const bits = bfloat16 ? bits_bf16 : bits_half;
    std::vector<uint16_t> a(16 * 16);
    std::vector<uint16_t> b(16 * 8);
    for (size_t i = 0; i < a.size(); ++i) a[i] = bits[i * 5 % 7];
    for (size_t i = 0; i < b.size(); ++i) b[i] = bits[i * 3 % 7];
    const Stream stream;
    const DeviceArray<uint16_t> device_a(a);
    const DeviceArray<uint16_t> device_b(b);
    const DeviceArray<float> d(Numbers(16 * 8));
    ASSERT_EQ(LaunchMma(bfloat16, device_a.data(), device_b.data(), d.data(), stream.get()),
              cudaSuccess);
    stream.Wait();
    std::vector<float> wanted = Numbers(16 * 8);
    for (size_t row = 0; row < 16; ++row) {
      for (size_t col = 0; col < 8; ++col) {
        for (size_t k = 0; k < 16; ++k) {
          const size_t x = (row * 16 + k) * 5 % 7 + 1;
          const size_t y = (k * 8 + col) * 3 % 7 + 1;
          wanted[row * 8 + col] += static_cast<float>(x * y);
        }
      }
    }
    EXPECT_THAT(d.Values(), ElementsAreArray(wanted)) << "bfloat16 " << bfloat16;
  }
}

TEST_F(ThreadsTest, MissingBarrierGivesWrongSums) {
  if (kThreadSanitizer) {
    EXPECT_DEATH(Sum(Bug::kMissingBarrier, 1), "data race");
    return;
  }
  int wrong = 0;
  for (uint64_t seed = 1; seed <= kNumSeeds; ++seed)
    wrong += Sum(Bug::kMissingBarrier, seed) != kSum;
  EXPECT_GT(wrong, 0);
}

TEST_F(ThreadsTest, RaceBetweenBlocksIsReported) {
  const Stream stream;
  const DeviceArray<int> out(std::vector<int>(32, 0));
  ASSERT_EQ(LaunchCount(/*atomic=*/true, 20, out.data(), stream.get()), cudaSuccess);
  stream.Wait();
  EXPECT_THAT(out.Values(), testing::Each(20));
  if (!kThreadSanitizer) return;  // blocks run one after the other, which is an order like any
  EXPECT_DEATH(
      {
        LaunchCount(/*atomic=*/false, 20, out.data(), stream.get());
        stream.Wait();
      },
      "data race");
}

TEST_F(ThreadsTest, DivergentBarrierNamesBothLines) {
  EXPECT_DEATH(Sum(Bug::kDivergentBarrier, 1),
               "divergent barrier: thread [0-9]+ waits at __syncthreads .*probe_kernels.cu:[0-9]+, "
               "thread [0-9]+ at .*probe_kernels.cu:[0-9]+");
  EXPECT_DEATH(Sum(Bug::kExitedThread, 1),
               "divergent barrier: thread [0-9]+ waits at __syncthreads .*probe_kernels.cu:[0-9]+, "
               "thread 3 has returned, last seen at .*probe_kernels.cu:[0-9]+");
}

TEST_F(ThreadsTest, WrongMasksAndExitedLanesNameBothLines) {
  EXPECT_DEATH(Sum(Bug::kExitedLane, 1),
               "kernel SumKernel.*probe_kernels.cu:[0-9]+ with mask ffffffff, but lane 5 has "
               "returned \\(exited lane\\), last seen at .*probe_kernels.cu:[0-9]+");
  EXPECT_DEATH(
      Sum(Bug::kWrongMask, 1),
      "lane 7 calls a warp operation at .*probe_kernels.cu:[0-9]+ with mask 0000000f, which "
      "lacks it; lane 0 was last seen at .*probe_kernels.cu:[0-9]+");
  EXPECT_DEATH(
      Sum(Bug::kDifferentMasks, 1),
      "divergent warp or wrong mask: thread [0-9]+ waits at .*probe_kernels.cu:[0-9]+ with "
      "mask [0-9a-f]+, thread [0-9]+ of that mask at .*probe_kernels.cu:[0-9]+ \\(warp "
      "operation, mask [0-9a-f]+\\)");
  EXPECT_DEATH(Sum(Bug::kReadsOutsideMask, 1),
               "lane [0-9]+ reads lane 9 by a shuffle at .*probe_kernels.cu:[0-9]+, which mask "
               "000000ff lacks; that lane was last seen at .*probe_kernels.cu:[0-9]+");
}

TEST_F(ThreadsTest, OutOfBoundsAccessesAreReported) {
#if defined(__SANITIZE_ADDRESS__)
  EXPECT_DEATH(Sum(Bug::kSharedOutOfBounds, 1), "AddressSanitizer: heap-buffer-overflow");
  EXPECT_DEATH(Sum(Bug::kGlobalOutOfBounds, 1), "AddressSanitizer: heap-buffer-overflow");
#endif
  EXPECT_DEATH(Copy(Bug::kLoadOutOfBounds, 1), "not in one allocation of the device");
}

TEST_F(ThreadsTest, MissingWaitOfACopyGivesNan) {
  if (kThreadSanitizer) return;  // what it shows is the barrier that misses with it
  int wrong = 0;
  for (uint64_t seed = 1; seed <= kNumSeeds; ++seed) {
    wrong += Copy(Bug::kMissingCopyWait, seed) != Numbers(kCount);
  }
  EXPECT_EQ(wrong, kNumSeeds);
}

TEST_F(ThreadsTest, MissingBarrierAfterACopyIsFound) {
  if (kThreadSanitizer) {
    EXPECT_DEATH(Copy(Bug::kMissingCopyBarrier, 1), "data race");
    return;
  }
  int wrong = 0;
  for (uint64_t seed = 1; seed <= kNumSeeds; ++seed) {
    wrong += Copy(Bug::kMissingCopyBarrier, seed) != Numbers(kCount);
  }
  EXPECT_GT(wrong, 0);
}

TEST_F(ThreadsTest, CopyThatNobodyWaitsForIsReported) {
  EXPECT_DEATH(Copy(Bug::kUnfinishedCopy, 1), "a cp.async of .* was never waited for");
}

TEST_F(ThreadsTest, MisalignedVectorAccessIsReported) {
  EXPECT_DEATH(Copy(Bug::kMisalignedLoad, 1), "probe_kernels.cu:[0-9]+: misaligned 16-byte access");
#if defined(__SANITIZE_ADDRESS__)  // and with it UBSan
  EXPECT_DEATH(Copy(Bug::kMisalignedAccess, 1), "misaligned address");
#endif
}

}  // namespace
}  // namespace phi::cuda_host
