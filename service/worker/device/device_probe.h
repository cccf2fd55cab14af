#pragma once

#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/cuda/cuda_devices.h"
#include "service/api/exit_code.h"

namespace phi::service {

// The only argument of a process that looks for GPUs. Not for people: --help does not list it.
inline constexpr std::string_view kDeviceProbeArgument = "--phi-device-probe";

// kernels::ListCudaDevices() as a process of CudaProgram() sees it, started for that alone: the
// caller loads no driver and holds no context. DEADLINE_EXCEEDED where the process takes too long,
// INTERNAL where it ends without an answer, FAILED_PRECONDITION where there is no such program.
absl::StatusOr<std::vector<kernels::CudaDevice>> AskForCudaDevices();

// The whole life of that process: its answer goes to standard output.
ExitCode RunDeviceProbe();

}  // namespace phi::service
