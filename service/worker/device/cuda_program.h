#pragma once

#include <string>

namespace phi::service {

// The path of the program that a GPU's ranks, and the process that looks for GPUs, are processes
// of: this very program where it has the CUDA backend, phi-worker-cuda in the same folder
// otherwise. Empty where there is neither.
std::string CudaProgram();

}  // namespace phi::service
