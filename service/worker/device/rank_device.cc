#include "service/worker/device/rank_device.h"

#include <span>
#include <string>

#include "absl/strings/str_format.h"
#include "kernels/base/status_macros.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/isa.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_devices.h"
#include "kernels/cuda/layout.h"
#include "service/worker/device/device_choice.h"
#include "service/worker/group/host_resources.h"
#include "shard/collective/gloo_communicator.h"
#include "shard/collective/nccl_communicator.h"
#include "shard/collective/single_rank_communicator.h"

namespace phi::service {
namespace {

// How long a follower waits for the leader's unique id: the supervisor ends it before.
constexpr absl::Duration kIdLimit = absl::Hours(1);

bool IsCuda(const RankSpec& spec) { return spec.device == kCudaDevice; }

absl::StatusOr<kernels::DType> DTypeOf(const RankSpec& spec) {
  const auto dtype = kernels::ParseDType(spec.dtype);
  if (!dtype.has_value())
    return absl::InvalidArgumentError(absl::StrFormat("no dtype '%s'", spec.dtype));
  return *dtype;
}

int64_t MaxBlockIds(const RankSpec& spec) {
  return int64_t{spec.max_sequences} * kernels::NumKvBlocks(int64_t{spec.context_tokens});
}

int64_t MaxReducedValues(const RankSpec& spec) {
  return int64_t{spec.max_step_tokens} * spec.hidden_size;
}

absl::StatusOr<std::unique_ptr<shard::Communicator>> ConnectByGloo(const RankSpec& spec) {
  if (spec.world_size == 1) return shard::MakeSingleRankCommunicator();
  // Longer than the supervisor's limits, who sees all ranks and shall find and name the one that
  // hangs.
  const absl::Duration stall_limit = absl::Milliseconds(spec.stall_limit_ms);
  constexpr absl::Duration kLater = absl::Seconds(5);
  return shard::MakeGlooCommunicator(spec.rank,
                                     spec.world_size,
                                     {.store_dir = spec.rendezvous_dir,
                                      .connect_timeout = kConnectStallLimits * stall_limit + kLater,
                                      .timeout = 2 * stall_limit + kLater});
}

// Made by the leader, who tells the others.
absl::StatusOr<std::string> ShareUniqueId(PlanEnd& plan_end) {
  if (plan_end.receiver.has_value()) {
    PHI_ASSIGN_OR_RETURN(const std::vector<std::byte> bytes,
                         plan_end.receiver->ReceiveBytes(kIdLimit));
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  PHI_ASSIGN_OR_RETURN(const std::string id, shard::MakeNcclUniqueId());
  PHI_RETURN_IF_ERROR(plan_end.sender->SendBytes(std::as_bytes(std::span(id)), kIdLimit));
  return id;
}

absl::StatusOr<std::unique_ptr<shard::Communicator>> ConnectByNccl(const RankSpec& spec,
                                                                   kernels::CudaBackend& backend,
                                                                   PlanEnd& plan_end) {
  std::string id;
  if (spec.world_size > 1) {
    PHI_ASSIGN_OR_RETURN(id, ShareUniqueId(plan_end));
  }
  return shard::MakeNcclCommunicator(
      spec.rank,
      spec.world_size,
      id,
      backend,
      {.rank_order = spec.batch_invariant, .max_values = MaxReducedValues(spec)});
}

}  // namespace

absl::StatusOr<std::unique_ptr<kernels::MemoryLayout>> MakeMemoryLayout(std::string_view device,
                                                                        kernels::DType dtype,
                                                                        std::string_view isa) {
  if (device == kCudaDevice) return std::make_unique<kernels::CudaMemoryLayout>(dtype);
  PHI_ASSIGN_OR_RETURN(const kernels::Isa parsed, kernels::ParseIsa(isa));
  return kernels::MakeCpuBackend({.dtype = dtype, .threads = 1, .isa = parsed});
}

uint64_t CollectiveBytes(const RankSpec& spec) {
  if (!IsCuda(spec) || !spec.batch_invariant || spec.world_size == 1) return 0;
  return static_cast<uint64_t>(spec.world_size * MaxReducedValues(spec)) * sizeof(float);
}

PlanEnd::PlanEnd(const RankSpec& spec) {
  if (spec.rank == 0) {
    sender.emplace(spec.plan_fds);
  } else {
    receiver.emplace(spec.plan_fds.at(0));
  }
}

absl::StatusOr<std::unique_ptr<kernels::Backend>> MakeRankBackend(const RankSpec& spec) {
  PHI_ASSIGN_OR_RETURN(const kernels::DType dtype, DTypeOf(spec));
  if (IsCuda(spec)) {
    return kernels::MakeCudaBackend({.device = spec.rank,
                                     .dtype = dtype,
                                     .batch_invariant = spec.batch_invariant,
                                     .max_step_tokens = int64_t{spec.max_step_tokens},
                                     .max_block_ids = MaxBlockIds(spec)});
  }
  PHI_ASSIGN_OR_RETURN(const kernels::Isa isa, kernels::ParseIsa(spec.isa));
  return kernels::MakeCpuBackend({.dtype = dtype, .threads = spec.threads, .isa = isa});
}

absl::StatusOr<std::unique_ptr<shard::Communicator>> ConnectRanks(const RankSpec& spec,
                                                                  kernels::Backend& backend,
                                                                  PlanEnd& plan_end) {
  if (!IsCuda(spec)) return ConnectByGloo(spec);
  return ConnectByNccl(spec, static_cast<kernels::CudaBackend&>(backend), plan_end);
}

uint64_t FreeMemoryBytes(const RankSpec& spec) {
  return IsCuda(spec) ? kernels::FreeCudaBytes(spec.rank) : ReadHostResources().free_memory_bytes;
}

}  // namespace phi::service
