#include "service/worker/group/host_resources.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace phi::service {
namespace {

class HostResourcesTest : public testing::Test {
 protected:
  HostResourcesTest() : root_(testing::TempDir() + "host_resources." + std::to_string(getpid())) {
    Write("/proc/meminfo", "MemTotal: 4000000 kB\nMemFree: 1 kB\nMemAvailable:    2000000 kB\n");
  }
  ~HostResourcesTest() override { std::filesystem::remove_all(root_); }
  void Write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  std::string root_;
};

TEST_F(HostResourcesTest, WithoutCgroupsWhatTheMachineHas) {
  const HostResources host = ReadHostResources(root_);
  EXPECT_GE(host.num_cpus, 1);
  EXPECT_EQ(host.free_memory_bytes, 2'000'000ull * 1024);
}

TEST_F(HostResourcesTest, UnlimitedCgroup) {
  Write("/proc/self/cgroup", "0::/\n");
  Write("/sys/fs/cgroup/cpu.max", "max 100000\n");
  Write("/sys/fs/cgroup/memory.max", "max\n");
  EXPECT_EQ(ReadHostResources(root_).free_memory_bytes, 2'000'000ull * 1024);
}

TEST_F(HostResourcesTest, TightestLimitOfAllCgroupsAbove) {
  Write("/proc/self/cgroup", "0::/pod/container\n");
  Write("/sys/fs/cgroup/pod/container/memory.max", "900000000\n");
  Write("/sys/fs/cgroup/pod/container/memory.current", "100000000\n");
  Write("/sys/fs/cgroup/pod/memory.max", "500000000\n");
  Write("/sys/fs/cgroup/pod/memory.current", "300000000\n");
  Write("/sys/fs/cgroup/pod/memory.stat", "anon 5\ninactive_file 50000000\n");
  Write("/sys/fs/cgroup/pod/cpu.max", "50000 100000\n");
  const HostResources host = ReadHostResources(root_);
  EXPECT_EQ(host.free_memory_bytes, 250'000'000u);
  EXPECT_EQ(host.num_cpus, 1);
}

TEST_F(HostResourcesTest, FirstVersionOfCgroups) {
  Write("/proc/self/cgroup", "4:memory:/job\n3:cpu,cpuacct:/job\n");
  Write("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "800000000\n");
  Write("/sys/fs/cgroup/memory/job/memory.usage_in_bytes", "200000000\n");
  Write("/sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "100000\n");
  Write("/sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n");
  const HostResources host = ReadHostResources(root_);
  EXPECT_EQ(host.free_memory_bytes, 600'000'000u);
  EXPECT_EQ(host.num_cpus, 1);
}

}  // namespace
}  // namespace phi::service
