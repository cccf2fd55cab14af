#include "service/worker/device/device_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace phi::service {
namespace {

using testing::HasSubstr;

ListDevices Gpus(size_t count) {
  return [count]() -> absl::StatusOr<std::vector<kernels::CudaDevice>> {
    std::vector<kernels::CudaDevice> devices(count);
    for (size_t i = 0; i < count; ++i) devices[i].free_bytes = i + 1;
    return devices;
  };
}

absl::StatusOr<std::vector<kernels::CudaDevice>> NoDriver() {
  return absl::FailedPreconditionError("there is no NVIDIA driver");
}

TEST(DeviceChoice, CpuAsksNobody) {
  const auto choice = ChooseDevice("cpu", 4, []() -> decltype(NoDriver()) {
    ADD_FAILURE() << "asked";
    return NoDriver();
  });
  ASSERT_TRUE(choice.ok()) << choice.status();
  EXPECT_EQ(choice->device, "cpu");
  EXPECT_EQ(choice->note, "");
}

TEST(DeviceChoice, AutoAndCudaTakeAGpuForEachRank) {
  for (const char* flag : {"auto", "cuda"}) {
    const auto choice = ChooseDevice(flag, 2, Gpus(3));
    ASSERT_TRUE(choice.ok()) << choice.status();
    EXPECT_TRUE(choice->is_cuda());
    EXPECT_EQ(choice->note, "");
    ASSERT_EQ(choice->devices.size(), 2U);
    EXPECT_EQ(choice->devices[1].free_bytes, 2U);
  }
}

TEST(DeviceChoice, WithoutADriverAutoComputesOnTheCpuAndSaysWhy) {
  const auto choice = ChooseDevice("auto", 2, NoDriver);
  ASSERT_TRUE(choice.ok()) << choice.status();
  EXPECT_EQ(choice->device, "cpu");
  EXPECT_TRUE(choice->devices.empty());
  EXPECT_THAT(choice->note, HasSubstr("there is no NVIDIA driver"));
}

TEST(DeviceChoice, WithoutADriverCudaIsRefused) {
  const auto choice = ChooseDevice("cuda", 2, NoDriver);
  EXPECT_TRUE(absl::IsFailedPrecondition(choice.status()));
  EXPECT_EQ(choice.status().message(), "--device=cuda: there is no NVIDIA driver");
}

TEST(DeviceChoice, FewerGpusThanRanksAreRefused) {
  for (const char* flag : {"auto", "cuda"}) {
    const auto choice = ChooseDevice(flag, 4, Gpus(3));
    EXPECT_TRUE(absl::IsInvalidArgument(choice.status()));
    EXPECT_THAT(std::string(choice.status().message()), HasSubstr("--tensor_parallel=4"));
    EXPECT_THAT(std::string(choice.status().message()), HasSubstr("there are 3"));
  }
}

// Rank r has GPU r: those behind one that no rank can have are out of reach.
TEST(DeviceChoice, GpusBeforeAnUnusableOneAreTaken) {
  const auto gpus_with_an_old = [](size_t index) {
    return [=] {
      auto devices = Gpus(4)();
      devices->at(index).problem = "GPU " + std::to_string(index) + ": too old";
      return devices;
    };
  };
  for (const char* flag : {"auto", "cuda"}) {
    const auto enough = ChooseDevice(flag, 2, gpus_with_an_old(2));
    ASSERT_TRUE(enough.ok()) << enough.status();
    EXPECT_TRUE(enough->is_cuda());
    EXPECT_EQ(enough->devices.size(), 2U);
    const auto too_few = ChooseDevice(flag, 3, gpus_with_an_old(2));
    EXPECT_TRUE(absl::IsInvalidArgument(too_few.status()));
    EXPECT_THAT(std::string(too_few.status().message()),
                HasSubstr("there are 2 (GPU 2: too old; CUDA_VISIBLE_DEVICES can leave that one "
                          "out)"));
  }
  const auto none = ChooseDevice("cuda", 1, gpus_with_an_old(0));
  EXPECT_TRUE(absl::IsFailedPrecondition(none.status()));
  EXPECT_THAT(std::string(none.status().message()), HasSubstr("--device=cuda: GPU 0: too old"));
  const auto cpu = ChooseDevice("auto", 1, gpus_with_an_old(0));
  ASSERT_TRUE(cpu.ok()) << cpu.status();
  EXPECT_EQ(cpu->device, "cpu");
  EXPECT_THAT(cpu->note, HasSubstr("--device=auto takes the CPU: GPU 0: too old"));
}

}  // namespace
}  // namespace phi::service
