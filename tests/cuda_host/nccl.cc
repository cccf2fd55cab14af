// NCCL's functions, after nccl.h; collectives themselves are in nccl_world.
#include <nccl.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <utility>

#include "tests/cuda_host/grid.h"
#include "tests/cuda_host/nccl_world.h"
#include "tests/cuda_host/streams.h"

struct ncclComm {
  std::shared_ptr<phi::cuda_host::World> world;
  std::shared_ptr<phi::cuda_host::RankState> rank;
};

namespace phi::cuda_host {
namespace {

// Worlds on their way, by unique id, and all communicators: a process may end without destroying
// them.
struct Lobby {
  std::mutex mutex;
  std::condition_variable joined;
  std::map<std::string, std::shared_ptr<World>> worlds;
  std::map<ncclComm_t, std::unique_ptr<ncclComm>> communicators;
  uint64_t num_ids = 0;
};

Lobby& TheLobby() {
  static Lobby lobby;
  return lobby;
}

// Takes the rank's place; false when it cannot have it.
bool Join(World& world, const std::shared_ptr<RankState>& rank, int num_ranks) {
  const std::lock_guard lock(world.mutex);
  if (world.num_ranks == 0) {
    world.num_ranks = num_ranks;
    world.ranks.resize(static_cast<size_t>(num_ranks));
  }
  const bool taken = world.num_ranks != num_ranks ||
                     world.ranks[static_cast<size_t>(rank->rank)] != nullptr ||
                     std::any_of(world.ranks.begin(), world.ranks.end(), [&](const auto& other) {
                       return other != nullptr && other->device == rank->device;
                     });
  if (taken) {
    world.failed = true;
    return false;
  }
  world.ranks[static_cast<size_t>(rank->rank)] = rank;
  ++world.num_joined;
  return true;
}

bool IsComplete(World& world) {
  const std::lock_guard lock(world.mutex);
  return world.failed || world.num_joined == world.num_ranks;
}

// Sends and receives wait for the end of their group.
struct Group {
  int depth = 0;
  std::map<std::pair<ncclComm_t, cudaStream_t>, std::vector<Transfer>> transfers;
};
thread_local Group group;

ncclResult_t EnqueueFor(ncclComm_t comm,
                        cudaStream_t stream,
                        std::unique_ptr<Operation> operation) {
  if (stream == nullptr || stream->device->ordinal != comm->rank->device) {
    return ncclInvalidArgument;
  }
  return Enqueue(stream, std::move(operation)) == cudaSuccess ? ncclSuccess
                                                              : ncclUnhandledCudaError;
}

ncclResult_t EnqueueTransfers() {
  ncclResult_t result = ncclSuccess;
  for (auto& [where, transfers] : std::exchange(group.transfers, {})) {
    const auto& [comm, stream] = where;
    const ncclResult_t each =
        EnqueueFor(comm, stream, MakeTransfers(comm->world, comm->rank, std::move(transfers)));
    if (each != ncclSuccess) result = each;
  }
  return result;
}

ncclResult_t AddTransfer(ncclComm_t comm, cudaStream_t stream, const Transfer& transfer) {
  if (transfer.peer < 0 || transfer.peer >= comm->world->num_ranks) return ncclInvalidArgument;
  group.transfers[{comm, stream}].push_back(transfer);
  return group.depth == 0 ? EnqueueTransfers() : ncclSuccess;
}

// Whether an operation of this rank lives though no stream has one: NCCL waits for such graphs.
bool IsInGraph(const ncclComm& comm) {
  Device& device = GetDevice(comm.rank->device);
  const std::lock_guard lock(device.mutex);
  for (const CUstream_st* stream : device.streams) {
    if (!stream->queue.empty()) return false;  // cannot tell
  }
  WaitFor(device, nullptr);    // frees what is finished
  constexpr long kOwners = 2;  // the communicator and its world
  return comm.rank.use_count() > kOwners;
}

// NCCL's reference: "an intra-node collective call, which all ranks on the same node should call to
// avoid a hang".
void WaitForAllToEnd(const ncclComm& comm) {
  World& world = *comm.world;
  std::unique_lock lock(world.mutex);
  comm.rank->ended = true;
  comm.rank->waits_in = "ncclCommDestroy";
  world.ended.notify_all();
  const std::chrono::duration<double> patience(CurrentSettings().deadlock_seconds);
  if (!world.ended.wait_for(lock, patience, [&] { return world.AllEnded(); })) {
    Die("NCCL deadlock in ncclCommDestroy: %s", world.Report().c_str());
  }
}

void Forget(ncclComm_t comm) {
  const std::lock_guard lock(TheLobby().mutex);
  TheLobby().communicators.erase(comm);
}

// `call.kind` is the function's name.
ncclResult_t AddCollective(ncclComm_t comm,
                           cudaStream_t stream,
                           const CollectiveCall& call,
                           const void* send,
                           void* receive) {
  if (const int error = InjectedError(call.kind); error != 0) {
    return static_cast<ncclResult_t>(error);
  }
  return EnqueueFor(comm, stream, MakeCollective(comm->world, comm->rank, call, send, receive));
}

}  // namespace
}  // namespace phi::cuda_host

using phi::cuda_host::InjectedError;
using phi::cuda_host::TheLobby;

ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  if (const int error = InjectedError("ncclGetUniqueId"); error != 0) {
    return static_cast<ncclResult_t>(error);
  }
  const std::lock_guard lock(TheLobby().mutex);
  std::memset(id, 0, sizeof(*id));
  const uint64_t number = ++TheLobby().num_ids;
  std::memcpy(id->internal, &number, sizeof(number));
  return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t* comm, int num_ranks, ncclUniqueId id, int rank) {
  if (const int error = InjectedError("ncclCommInitRank"); error != 0) {
    return static_cast<ncclResult_t>(error);
  }
  if (rank < 0 || rank >= num_ranks) return ncclInvalidArgument;
  auto state = std::make_shared<phi::cuda_host::RankState>();
  state->rank = rank;
  state->device = phi::cuda_host::CurrentDevice().ordinal;
  auto& lobby = TheLobby();
  std::unique_lock lock(lobby.mutex);
  auto& entry = lobby.worlds[std::string(id.internal, sizeof(id.internal))];
  if (entry == nullptr) entry = std::make_shared<phi::cuda_host::World>();
  const std::shared_ptr<phi::cuda_host::World> world = entry;
  phi::cuda_host::Join(*world, state, num_ranks);
  lobby.joined.notify_all();
  const auto patience =
      std::chrono::duration<double>(phi::cuda_host::CurrentSettings().deadlock_seconds);
  if (!lobby.joined.wait_for(lock, patience, [&] { return phi::cuda_host::IsComplete(*world); })) {
    phi::cuda_host::Die("NCCL deadlock in ncclCommInitRank: %s", world->Report().c_str());
  }
  if (world->failed) return ncclInvalidUsage;
  auto made = std::make_unique<ncclComm>(ncclComm{.world = world, .rank = state});
  *comm = made.get();
  lobby.communicators[*comm] = std::move(made);
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(
    ncclComm_t* comm, int num_ranks, ncclUniqueId id, int rank, ncclConfig_t* /*config*/) {
  return ncclCommInitRank(comm, num_ranks, id, rank);
}

ncclResult_t ncclCommFinalize(ncclComm_t /*comm*/) { return ncclSuccess; }

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  if (phi::cuda_host::IsInGraph(*comm)) {
    phi::cuda_host::Die("ncclCommDestroy of rank %d waits for ever: a graph has its collectives",
                        comm->rank->rank);
  }
  phi::cuda_host::WaitForAllToEnd(*comm);
  phi::cuda_host::Forget(comm);
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  {
    const std::lock_guard lock(comm->world->mutex);
    comm->rank->aborted = true;
    for (const auto& other : comm->world->ranks) {
      if (other != comm->rank) other->async_error = ncclRemoteError;
    }
  }
  comm->world->ended.notify_all();
  phi::cuda_host::NotifyProgress();
  phi::cuda_host::Forget(comm);
  return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  const std::lock_guard lock(comm->world->mutex);
  *error = comm->rank->async_error;
  return ncclSuccess;
}

ncclResult_t ncclCommCount(ncclComm_t comm, int* count) {
  *count = comm->world->num_ranks;
  return ncclSuccess;
}

ncclResult_t ncclCommUserRank(ncclComm_t comm, int* rank) {
  *rank = comm->rank->rank;
  return ncclSuccess;
}

ncclResult_t ncclCommCuDevice(ncclComm_t comm, int* device) {
  *device = comm->rank->device;
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclUnhandledCudaError:
      return "unhandled cuda error";
    case ncclSystemError:
      return "unhandled system error";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclInvalidUsage:
      return "invalid usage";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    default:
      return "internal error";
  }
}

const char* ncclGetLastError(ncclComm_t /*comm*/) { return ""; }

ncclResult_t ncclAllReduce(const void* send,
                           void* receive,
                           size_t count,
                           ncclDataType_t type,
                           ncclRedOp_t op,
                           ncclComm_t comm,
                           cudaStream_t stream) {
  if (op != ncclSum) return ncclInvalidArgument;
  return phi::cuda_host::AddCollective(
      comm,
      stream,
      {.kind = "ncclAllReduce", .count = count, .type = type, .reduction = op},
      send,
      receive);
}

ncclResult_t ncclReduce(const void* send,
                        void* receive,
                        size_t count,
                        ncclDataType_t type,
                        ncclRedOp_t op,
                        int root,
                        ncclComm_t comm,
                        cudaStream_t stream) {
  if (op != ncclSum) return ncclInvalidArgument;
  return phi::cuda_host::AddCollective(
      comm,
      stream,
      {.kind = "ncclReduce", .count = count, .type = type, .reduction = op, .root = root},
      send,
      receive);
}

ncclResult_t ncclAllGather(const void* send,
                           void* receive,
                           size_t count,
                           ncclDataType_t type,
                           ncclComm_t comm,
                           cudaStream_t stream) {
  return phi::cuda_host::AddCollective(
      comm, stream, {.kind = "ncclAllGather", .count = count, .type = type}, send, receive);
}

ncclResult_t ncclBroadcast(const void* send,
                           void* receive,
                           size_t count,
                           ncclDataType_t type,
                           int root,
                           ncclComm_t comm,
                           cudaStream_t stream) {
  return phi::cuda_host::AddCollective(
      comm,
      stream,
      {.kind = "ncclBroadcast", .count = count, .type = type, .root = root},
      send,
      receive);
}

ncclResult_t ncclSend(const void* send,
                      size_t count,
                      ncclDataType_t type,
                      int peer,
                      ncclComm_t comm,
                      cudaStream_t stream) {
  return phi::cuda_host::AddTransfer(comm,
                                     stream,
                                     {.is_send = true,
                                      .buffer = const_cast<void*>(send),
                                      .count = count,
                                      .type = type,
                                      .peer = peer});
}

ncclResult_t ncclRecv(void* receive,
                      size_t count,
                      ncclDataType_t type,
                      int peer,
                      ncclComm_t comm,
                      cudaStream_t stream) {
  return phi::cuda_host::AddTransfer(
      comm, stream, {.buffer = receive, .count = count, .type = type, .peer = peer});
}

ncclResult_t ncclGroupStart() {
  ++phi::cuda_host::group.depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (phi::cuda_host::group.depth == 0) return ncclInvalidUsage;
  return --phi::cuda_host::group.depth == 0 ? phi::cuda_host::EnqueueTransfers() : ncclSuccess;
}
