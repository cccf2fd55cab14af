#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "service/worker/group/rank_spec.h"
#include "shard/collective/communicator.h"
#include "shard/plan_channel.h"

// The one place that knows what each device's ranks are made of.
namespace phi::service {

// How a rank on `device` would lay its memory out; needs no GPU. `isa` is a CPU's.
absl::StatusOr<std::unique_ptr<kernels::MemoryLayout>> MakeMemoryLayout(std::string_view device,
                                                                        kernels::DType dtype,
                                                                        std::string_view isa);

// What a rank takes of its device's memory beside its MemoryPlan and its backend's scratch.
uint64_t CollectiveBytes(const RankSpec& spec);

// A rank's end of the plan channel; takes ownership of spec.plan_fds.
struct PlanEnd {
  explicit PlanEnd(const RankSpec& spec);

  std::optional<shard::PlanSender> sender;      // the leader's
  std::optional<shard::PlanReceiver> receiver;  // a follower's
};

// The rank's backend; with CUDA on the GPU of its own number. FAILED_PRECONDITION or
// INVALID_ARGUMENT for what the machine cannot do, RESOURCE_EXHAUSTED for want of memory.
absl::StatusOr<std::unique_ptr<kernels::Backend>> MakeRankBackend(const RankSpec& spec);

// Joins the ranks of one epoch: Gloo on CPUs; NCCL on GPUs, where the leader makes the unique id
// and the others receive it as the first message of their plan channel. `backend` is
// MakeRankBackend's for the same spec and outlives the communicator. Waits for all ranks; with NCCL
// for as long as the supervisor lets it. Errors: see MakeGlooCommunicator, MakeNcclCommunicator and
// plan_channel.h.
absl::StatusOr<std::unique_ptr<shard::Communicator>> ConnectRanks(const RankSpec& spec,
                                                                  kernels::Backend& backend,
                                                                  PlanEnd& plan_end);

// Of the memory that the rank computes in, now.
uint64_t FreeMemoryBytes(const RankSpec& spec);

}  // namespace phi::service
