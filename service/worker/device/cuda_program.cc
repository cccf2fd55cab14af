#include "service/worker/device/cuda_program.h"

#include <unistd.h>

#include <filesystem>
#include <system_error>

#include "kernels/cuda/cuda_devices.h"

namespace phi::service {

std::string CudaProgram() {
  constexpr const char* kSelf = "/proc/self/exe";
  if (kernels::IsCudaBuilt()) return kSelf;
  std::error_code error;
  const auto program =
      std::filesystem::read_symlink(kSelf, error).parent_path() / "phi-worker-cuda";
  return !error && access(program.c_str(), X_OK) == 0 ? program.string() : "";
}

}  // namespace phi::service
