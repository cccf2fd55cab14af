#pragma once

#include <cstdint>
#include <string>

namespace phi::service {

// What this process may use of the machine.
struct HostResources {
  int num_cpus = 1;                // by affinity and cgroup quota
  uint64_t free_memory_bytes = 0;  // available now, within every cgroup limit above this process
};

// Reads /proc and cgroup v2 or v1. `root` is put before each path, for tests. A cgroup limit that
// cannot be read limits nothing; without /proc/meminfo there are 0 bytes, without an affinity one
// CPU.
HostResources ReadHostResources(const std::string& root = "");

}  // namespace phi::service
