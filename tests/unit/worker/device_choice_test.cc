#include "service/worker/device/device_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace phi::service {
namespace {

using testing::HasSubstr;

ListDevices Gpus(size_t count) {
  return [count] {
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

}  // namespace
}  // namespace phi::service
