#include "service/worker/group/host_resources.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <optional>
#include <sstream>
#include <vector>

#include "absl/strings/str_format.h"

namespace phi::service {
namespace {

std::optional<std::string> ReadText(const std::string& path) {
  std::ifstream file(path);
  if (!file) return std::nullopt;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// The first number of a file; nothing for "max" and the like.
std::optional<double> ReadNumber(const std::string& path) {
  std::ifstream file(path);
  double value = 0;
  if (!(file >> value)) return std::nullopt;
  return value;
}

// The number after `key` in a file of "key value" lines.
double ReadField(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  std::string word;
  double value = 0;
  while (file >> word) {
    if (word == key && file >> value) return value;
  }
  return 0;
}

// The folders of this process's cgroup and of all above it, from the mount `mount` down to `path`.
std::vector<std::string> FoldersUp(const std::string& mount, std::string path) {
  std::vector<std::string> folders;
  while (!path.empty() && path != "/") {
    folders.push_back(mount + path);
    path.resize(path.find_last_of('/'));
  }
  folders.push_back(mount);
  return folders;
}

// This process's path under cgroup controller `controller` ("" for v2), "/" where it is not told.
std::string CgroupPath(const std::string& root, const std::string& controller) {
  std::istringstream lines(ReadText(root + "/proc/self/cgroup").value_or(""));
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string names = absl::StrFormat(",%s,", line.substr(first + 1, second - first - 1));
    if (controller.empty() ? names == ",,"
                           : names.find("," + controller + ",") != std::string::npos) {
      return line.substr(second + 1);
    }
  }
  return "/";
}

double CpuQuota(const std::string& root) {
  double quota = INFINITY;
  for (const std::string& folder : FoldersUp(root + "/sys/fs/cgroup", CgroupPath(root, ""))) {
    std::istringstream text(ReadText(folder + "/cpu.max").value_or(""));
    double allowed = 0;
    double period = 0;
    if (text >> allowed >> period && period > 0) quota = std::min(quota, allowed / period);
  }
  for (const std::string& folder :
       FoldersUp(root + "/sys/fs/cgroup/cpu", CgroupPath(root, "cpu"))) {
    const double allowed = ReadNumber(folder + "/cpu.cfs_quota_us").value_or(-1);
    const double period = ReadNumber(folder + "/cpu.cfs_period_us").value_or(0);
    if (allowed > 0 && period > 0) quota = std::min(quota, allowed / period);
  }
  return quota;
}

// Page cache that is not in use gives way, so it counts as free.
double CgroupFreeMemory(const std::string& root) {
  double free = INFINITY;
  const auto note =
      [&](std::optional<double> limit, std::optional<double> used, double reclaimable) {
        if (limit && used) free = std::min(free, *limit - std::max(0.0, *used - reclaimable));
      };
  for (const std::string& folder : FoldersUp(root + "/sys/fs/cgroup", CgroupPath(root, ""))) {
    note(ReadNumber(folder + "/memory.max"),
         ReadNumber(folder + "/memory.current"),
         ReadField(folder + "/memory.stat", "inactive_file"));
  }
  for (const std::string& folder :
       FoldersUp(root + "/sys/fs/cgroup/memory", CgroupPath(root, "memory"))) {
    note(ReadNumber(folder + "/memory.limit_in_bytes"),
         ReadNumber(folder + "/memory.usage_in_bytes"),
         ReadField(folder + "/memory.stat", "total_inactive_file"));
  }
  return std::max(0.0, free);
}

}  // namespace

HostResources ReadHostResources(const std::string& root) {
  HostResources resources;
  cpu_set_t affinity;
  CPU_ZERO(&affinity);
  const int num_cpus =
      sched_getaffinity(0, sizeof(affinity), &affinity) == 0 ? CPU_COUNT(&affinity) : 1;
  resources.num_cpus =
      std::max(1, static_cast<int>(std::min<double>(num_cpus, std::ceil(CpuQuota(root)))));
  const double available = ReadField(root + "/proc/meminfo", "MemAvailable:") * 1024;
  resources.free_memory_bytes = static_cast<uint64_t>(std::min(available, CgroupFreeMemory(root)));
  return resources;
}

}  // namespace phi::service
