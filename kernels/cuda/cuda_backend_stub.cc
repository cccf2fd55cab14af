#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_devices.h"

// Takes the backend's place in programs that load no CUDA library.
namespace phi::kernels {
namespace {

absl::Status NoCuda() {
  return absl::FailedPreconditionError("this build has no CUDA backend (PHI_CUDA)");
}

}  // namespace

absl::StatusOr<std::unique_ptr<CudaBackend>> MakeCudaBackend(const CudaOptions& /*options*/) {
  return NoCuda();
}

size_t CudaScratchBytes() { return 0; }

absl::StatusOr<std::vector<CudaDevice>> ListCudaDevices() { return NoCuda(); }

uint64_t FreeCudaBytes(int /*device*/) { return 0; }

bool IsCudaBuilt() { return false; }

}  // namespace phi::kernels
