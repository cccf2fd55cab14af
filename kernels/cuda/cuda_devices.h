#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace phi::kernels {

struct CudaDevice {
  std::string name;
  std::string instruction_set;  // "sm_90"
  // What a rank may plan with: a context and the backend's own scratch are taken off.
  uint64_t free_bytes = 0;
  // Empty, or why no rank can have it, in one line: it is older than sm_80 or cannot be opened. The
  // rest is unknown then.
  std::string problem;
};

// The devices that this process sees, one at least; rank r's is the one of index r. Loads the
// driver and makes a context on each, so it is for a process of its own. FAILED_PRECONDITION, in
// one line, where there is no driver or no device, or in a build without CUDA.
absl::StatusOr<std::vector<CudaDevice>> ListCudaDevices();

// What is free on one of them now; 0 where that cannot be known.
uint64_t FreeCudaBytes(int device);

// Whether this build has the CUDA backend; asks no driver.
bool IsCudaBuilt();

}  // namespace phi::kernels
