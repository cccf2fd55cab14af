#include "shard/collective/nccl_communicator.h"

// Takes the communicator's place in programs that load no CUDA library.
namespace phi::shard {
namespace {

absl::Status NoCuda() {
  return absl::FailedPreconditionError("this build has no NCCL communicator (PHI_CUDA=OFF)");
}

}  // namespace

absl::StatusOr<std::string> MakeNcclUniqueId() { return NoCuda(); }

absl::StatusOr<std::unique_ptr<Communicator>> MakeNcclCommunicator(
    int /*rank*/,
    int /*world_size*/,
    const std::string& /*unique_id*/,
    kernels::CudaBackend& /*backend*/,
    const NcclOptions& /*options*/) {
  return NoCuda();
}

}  // namespace phi::shard
