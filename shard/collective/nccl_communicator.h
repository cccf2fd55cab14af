#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/cuda/cuda_backend.h"
#include "shard/collective/communicator.h"

namespace phi::shard {

struct NcclOptions {
  // Sums in rank order (I1): every rank gets all values and adds them itself, where NCCL's own
  // all-reduce picks algorithm and order by the message's size.
  bool rank_order = false;
  int64_t max_values = 0;  // of one all-reduce; looked at with rank_order only
  // The destructor ends the communicator, together with those of all other ranks, for which
  // ncclCommDestroy waits: for ranks that are threads and end in order. A rank process leaves that
  // to its own end, because it may be the only one that ends, as after an error in loading.
  bool destroy_together = false;
};

// What the ranks of one group find each other by: made by rank 0 for each epoch and sent to the
// others, any bytes. UNAVAILABLE where NCCL cannot make one.
absl::StatusOr<std::string> MakeNcclUniqueId();

// A communicator of GPUs, one a process (or, in tests, a thread), over NCCL. Collectives are queued
// on the backend's stream and return at once; AllReduceSum is recorded in the backend's graphs, and
// only counted where one is replayed. While the backend waits for the stream it looks for NCCL's
// asynchronous errors, which are UNAVAILABLE then; a peer that hangs shows as a step that does not
// end, which the supervisor sees. The group is lost in both cases (I5): nothing is aborted or
// repaired in the process. `seconds` in the stats stays 0: the collectives' time is the device's.
//
// Ranks meet on the loopback interface, unless NCCL_SOCKET_IFNAME says another one. Blocks until
// all ranks have come; the supervisor bounds that. With a world_size of 1 there is no NCCL in it.
// The backend outlives the communicator.
//
// Errors: INVALID_ARGUMENT for a rank outside the group or an id that is none, UNAVAILABLE for what
// NCCL reports, RESOURCE_EXHAUSTED without memory for the values of all ranks, FAILED_PRECONDITION
// in a build without CUDA (nccl_communicator_stub.cc).
absl::StatusOr<std::unique_ptr<Communicator>> MakeNcclCommunicator(int rank,
                                                                   int world_size,
                                                                   const std::string& unique_id,
                                                                   kernels::CudaBackend& backend,
                                                                   const NcclOptions& options);

}  // namespace phi::shard
