#include "kernels/cuda/cuda_backend.h"

// Takes the backend's place in builds without a CUDA toolkit (PHI_CUDA).
namespace phi::kernels {

absl::StatusOr<std::unique_ptr<CudaBackend>> MakeCudaBackend(const CudaOptions& /*options*/) {
  return absl::FailedPreconditionError("this build has no CUDA backend (PHI_CUDA=OFF)");
}

size_t CudaScratchBytes() { return 0; }

}  // namespace phi::kernels
