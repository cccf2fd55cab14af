#include <gmock/gmock.h>

#include <functional>
#include <set>
#include <thread>

#include "tests/unit/cuda_host/device_fixture.h"
#include "tests/unit/cuda_host/probe_kernels.h"

extern "C" const char* __tsan_default_options() { return "halt_on_error=1"; }

namespace phi::cuda_host {
namespace {

using testing::Each;
using testing::ElementsAreArray;

constexpr size_t kCount = 64;

class RuntimeTest : public DeviceTest {};

FillTarget Target(const DeviceArray<float>& out, float value) {
  return {.out = out.data(), .count = static_cast<int>(kCount), .value = value};
}

// One stream fills, the other copies what the first wrote.
std::vector<float> FillThenCopy(bool wait, uint64_t seed) {
  Configure({.seed = seed});
  const Stream first;
  const Stream second;
  cudaEvent_t filled = nullptr;
  EXPECT_EQ(cudaEventCreateWithFlags(&filled, cudaEventDisableTiming), cudaSuccess);
  const DeviceArray<float> from(kCount);
  const DeviceArray<float> to(kCount);
  EXPECT_EQ(LaunchFill(Target(from, 7), {}, first.get()), cudaSuccess);
  EXPECT_EQ(cudaEventRecord(filled, first.get()), cudaSuccess);
  if (wait) {
    EXPECT_EQ(cudaStreamWaitEvent(second.get(), filled, 0), cudaSuccess);
  }
  EXPECT_EQ(
      cudaMemcpyAsync(
          to.data(), from.data(), kCount * sizeof(float), cudaMemcpyDeviceToDevice, second.get()),
      cudaSuccess);
  second.Wait();
  const std::vector<float> copied = to.Values();
  first.Wait();
  EXPECT_EQ(cudaEventDestroy(filled), cudaSuccess);
  return copied;
}

TEST_F(RuntimeTest, EventsOrderStreams) {
  for (uint64_t seed = 1; seed <= kNumSeeds; ++seed) {
    EXPECT_THAT(FillThenCopy(/*wait=*/true, seed), Each(7.0F)) << "seed " << seed;
  }
}

TEST_F(RuntimeTest, MissingStreamWaitIsFound) {
  if (kThreadSanitizer) {
    EXPECT_DEATH(for (uint64_t seed = 1; seed <= kNumSeeds; ++seed)
                     FillThenCopy(/*wait=*/false, seed),
                 "data race");
    return;
  }
  int wrong = 0;
  for (uint64_t seed = 1; seed <= kNumSeeds; ++seed) {
    wrong += FillThenCopy(/*wait=*/false, seed) != std::vector<float>(kCount, 7);
  }
  EXPECT_GT(wrong, 0);
}

TEST_F(RuntimeTest, AsynchronousCopiesReadTheirSourceLate) {
  const auto first_value = [] {
    Configure({.eager_percent = 0});
    const Stream stream;
    std::vector<float> host(kCount, 1);
    const DeviceArray<float> device(kCount);
    EXPECT_EQ(cudaMemcpyAsync(device.data(),
                              host.data(),
                              kCount * sizeof(float),
                              cudaMemcpyHostToDevice,
                              stream.get()),
              cudaSuccess);
    host.assign(kCount, 2);  // the bug: nobody has waited for the copy
    stream.Wait();
    return device.Values()[0];
  };
  if (kThreadSanitizer) {
    EXPECT_DEATH(first_value(), "data race");
  } else {
    EXPECT_EQ(first_value(), 2);
  }
}

TEST_F(RuntimeTest, GraphsReplayTheParametersOfTheirCapture) {
  const Stream stream;
  const DeviceArray<float> out(kCount);
  TakeCounts(0);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal), cudaSuccess);
  {
    FillTarget target = Target(out, 3);
    ASSERT_EQ(LaunchFill(target, {}, stream.get()), cudaSuccess);
    target.value = 4;
  }
  ASSERT_EQ(cudaStreamEndCapture(stream.get(), &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
  ASSERT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(cudaMemsetAsync(out.data(), 0, kCount * sizeof(float), stream.get()), cudaSuccess);
    ASSERT_EQ(cudaGraphLaunch(executable, stream.get()), cudaSuccess);
    stream.Wait();
    EXPECT_THAT(out.Values(), Each(3.0F));
  }
  const DeviceCounts counts = TakeCounts(0);
  EXPECT_EQ(counts.kernels.at("FillKernel").launches, 3);
  EXPECT_EQ(counts.graph_launches, 3);
  EXPECT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
}

TEST_F(RuntimeTest, WaitingWhileCapturingLosesTheGraph) {
  const Stream stream;
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream.get()), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(cudaStreamEndCapture(stream.get(), &graph), cudaErrorStreamCaptureInvalidated);
  EXPECT_EQ(graph, nullptr);
}

// A driver refuses them to the thread that records, and the recording is lost; others may make
// them.
TEST_F(RuntimeTest, CallsThatARecordingForbidsLoseTheGraph) {
  const DeviceArray<float> device(kCount);
  std::vector<float> host(kCount);
  void* memory = nullptr;
  const std::vector<std::function<cudaError_t()>> calls = {
      [&] { return cudaMalloc(&memory, 16); },
      [&] { return cudaFree(device.data()); },
      [&] { return cudaMallocHost(&memory, 16); },
      [&] { return cudaFreeHost(host.data()); },
      [&] { return cudaMemcpy(host.data(), device.data(), 4, cudaMemcpyDeviceToHost); },
      [&] { return cudaMemset(device.data(), 0, 4); },
      [] { return cudaDeviceSynchronize(); },
  };
  for (size_t i = 0; i < calls.size(); ++i) {
    SCOPED_TRACE(i);
    const Stream stream;
    cudaGraph_t graph = nullptr;
    ASSERT_EQ(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal), cudaSuccess);
    EXPECT_EQ(calls[i](), cudaErrorStreamCaptureUnsupported);
    EXPECT_EQ(cudaStreamEndCapture(stream.get(), &graph), cudaErrorStreamCaptureInvalidated);
  }
  const Stream stream;
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal), cudaSuccess);
  std::jthread([&] { EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess); }).join();
  EXPECT_EQ(cudaStreamEndCapture(stream.get(), &graph), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  EXPECT_EQ(calls.back()(), cudaSuccess);
}

TEST_F(RuntimeTest, CopiesToPageableMemoryAreOverWhenTheyReturn) {
  Configure({.eager_percent = 0});
  const Stream stream;
  const DeviceArray<float> out(kCount);
  std::vector<float> host(kCount, 1);
  ASSERT_EQ(LaunchFill(Target(out, 2), {}, stream.get()), cudaSuccess);
  ASSERT_EQ(
      cudaMemcpyAsync(
          host.data(), out.data(), kCount * sizeof(float), cudaMemcpyDeviceToHost, stream.get()),
      cudaSuccess);
  EXPECT_THAT(host, Each(2.0F));
  EXPECT_EQ(cudaStreamQuery(stream.get()), cudaSuccess);
}

TEST_F(RuntimeTest, LimitsOfTheDeviceAreHeld) {
  const Stream stream;
  const DeviceArray<float> out(kCount);
  const FillTarget target = Target(out, 1);
  EXPECT_EQ(LaunchFill(target, {.threads = 1025}, stream.get()), cudaErrorInvalidConfiguration);
  EXPECT_EQ(LaunchFill(target, {.threads = 0}, stream.get()), cudaErrorInvalidConfiguration);
  EXPECT_EQ(LaunchFill(target, {.blocks_y = 65536}, stream.get()), cudaErrorInvalidConfiguration);
  // More shared memory than 48 KB has to be asked for, and 227 KB is all.
  EXPECT_EQ(LaunchFill(target, {.shared_bytes = 49 * 1024}, stream.get()), cudaErrorInvalidValue);
  EXPECT_EQ(LaunchFill(target, {.allow_shared_bytes = 228 * 1024}, stream.get()),
            cudaErrorInvalidValue);
  EXPECT_EQ(
      LaunchFill(
          target, {.shared_bytes = 227 * 1024, .allow_shared_bytes = 227 * 1024}, stream.get()),
      cudaSuccess);
  // A stream of another device, and the default one, which no code of ours means.
  EXPECT_EQ(cudaSetDevice(1), cudaSuccess);
  EXPECT_EQ(LaunchFill({}, {}, stream.get()), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaSetDevice(0), cudaSuccess);
  EXPECT_EQ(LaunchFill(target, {}, nullptr), cudaErrorInvalidResourceHandle);
  stream.Wait();
  // An A100 has less.
  Configure({.compute_major = 8});
  cudaDeviceProp properties{};
  ASSERT_EQ(cudaGetDeviceProperties(&properties, 0), cudaSuccess);
  EXPECT_EQ(properties.multiProcessorCount, 108);
  EXPECT_EQ(properties.sharedMemPerBlockOptin, 163U * 1024);
  EXPECT_EQ(LaunchFill(target, {.allow_shared_bytes = 163 * 1024}, stream.get()), cudaSuccess);
  EXPECT_EQ(LaunchFill(target, {.allow_shared_bytes = 164 * 1024}, stream.get()),
            cudaErrorInvalidValue);
  stream.Wait();
}

TEST_F(RuntimeTest, HostAndDeviceMemoryAreKeptApart) {
  const Stream stream;
  std::vector<float> host(kCount);
  EXPECT_DEATH(LaunchFill({.out = host.data(), .count = 1, .value = 1}, {}, stream.get()),
               "kernel FillKernel gets .* memory of the host");
  const DeviceArray<float> device(kCount);
  EXPECT_EQ(cudaMemcpy(host.data(), host.data(), 4, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(host.data(), device.data() + kCount - 1, 8, cudaMemcpyDeviceToHost),
            cudaErrorInvalidValue);
#if defined(__SANITIZE_ADDRESS__)
  EXPECT_DEATH(device.data()[0] = 1, "use-after-poison");
#endif
  // Page-locked host memory is both's.
  float* pinned = nullptr;
  ASSERT_EQ(cudaMallocHost(reinterpret_cast<void**>(&pinned), kCount * sizeof(float)), cudaSuccess);
  ASSERT_EQ(LaunchFill({.out = pinned, .count = kCount, .value = 5}, {}, stream.get()),
            cudaSuccess);
  stream.Wait();
  EXPECT_EQ(pinned[kCount - 1], 5);
  EXPECT_EQ(cudaFreeHost(pinned), cudaSuccess);
}

TEST_F(RuntimeTest, MemoryIsBoundedAndStartsAsNan) {
  Configure({.memory_bytes = 1 << 20});
  const DeviceArray<float> out(kCount);
  EXPECT_THAT(out.Values(), Each(testing::IsNan()));
  void* more = nullptr;
  EXPECT_EQ(cudaMalloc(&more, 1 << 20), cudaErrorMemoryAllocation);
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  EXPECT_EQ(cudaMemGetInfo(&free_bytes, &total_bytes), cudaSuccess);
  EXPECT_EQ(total_bytes - free_bytes, kCount * sizeof(float));
}

TEST_F(RuntimeTest, ErrorAfterTheNthCall) {
  FailCall("cudaMalloc", 2, cudaErrorMemoryAllocation);
  void* memory[2] = {};
  EXPECT_EQ(cudaMalloc(&memory[0], 16), cudaSuccess);
  EXPECT_EQ(cudaMalloc(&memory[1], 16), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaFree(memory[0]), cudaSuccess);
}

TEST_F(RuntimeTest, KernelFaultComesAtTheWaitAndStays) {
  const Stream stream;
  const DeviceArray<float> out(kCount);
  FailCall("kernel", 2, cudaErrorIllegalAddress);
  EXPECT_EQ(LaunchFill(Target(out, 1), {}, stream.get()), cudaSuccess);
  stream.Wait();
  LaunchFill(Target(out, 2), {}, stream.get());
  EXPECT_EQ(cudaStreamSynchronize(stream.get()), cudaErrorIllegalAddress);
  EXPECT_EQ(LaunchFill(Target(out, 3), {}, stream.get()), cudaErrorIllegalAddress);
  Configure({});  // a new process, as it were
}

TEST_F(RuntimeTest, QueryGetsAnywhereInTheEnd) {
  Configure({.eager_percent = 0});
  const Stream stream;
  const DeviceArray<float> out(kCount);
  for (int i = 0; i < 200; ++i) LaunchFill(Target(out, 1), {}, stream.get());
  int not_ready = 0;
  while (cudaStreamQuery(stream.get()) == cudaErrorNotReady) ++not_ready;
  EXPECT_GT(not_ready, 0);
  EXPECT_THAT(out.Values(), Each(1.0F));
}

}  // namespace
}  // namespace phi::cuda_host
