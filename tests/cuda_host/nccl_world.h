#pragma once

#include <nccl.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "tests/cuda_host/streams.h"

// The ranks of a communicator, as threads of this process with a device each. Collectives take
// part when the stream comes to them, and are matched per communicator by their order.
namespace phi::cuda_host {

// What has to agree between the ranks of one collective.
struct CollectiveCall {
  std::string kind;  // the function's name
  size_t count = 0;
  ncclDataType_t type = ncclFloat32;
  int reduction = -1;  // ncclRedOp_t, -1 where there is none
  int root = -1;

  bool operator==(const CollectiveCall&) const = default;
  std::string ToString() const;
};

size_t TypeBytes(ncclDataType_t type);

struct Message {
  size_t count = 0;
  ncclDataType_t type = ncclFloat32;
  std::vector<std::byte> data;
  std::shared_ptr<bool> received;
};

// One collective on its way.
struct Gathering {
  CollectiveCall call;
  int first_rank = 0;                          // who came first
  std::vector<std::vector<std::byte>> inputs;  // by rank
  std::vector<bool> arrived;
  std::vector<std::byte> result;
  int num_arrived = 0;
  int num_left = 0;
};

struct RankState {
  int rank = 0;
  int device = 0;
  uint64_t num_calls = 0;  // collectives that its stream has come to
  bool aborted = false;
  bool ended = false;  // its communicator is being destroyed
  ncclResult_t async_error = ncclSuccess;
  std::string waits_in;  // for the deadlock report
};

struct World {
  std::mutex mutex;  // of all below
  int num_ranks = 0;
  bool failed = false;  // no communicator comes of it
  std::vector<std::shared_ptr<RankState>> ranks;
  int num_joined = 0;
  std::condition_variable ended;                                // one more rank has
  std::map<uint64_t, Gathering> gatherings;                     // by number of call
  std::map<std::pair<int, int>, std::deque<Message>> messages;  // by sender and receiver

  bool AllEnded() const;
  // "rank 0 waits in ncclAllReduce #3 ...; rank 1 ...".
  std::string Report() const;
};

struct Transfer {
  bool is_send = false;
  void* buffer = nullptr;
  size_t count = 0;
  ncclDataType_t type = ncclFloat32;
  int peer = 0;
};

std::unique_ptr<Operation> MakeCollective(std::shared_ptr<World> world,
                                          std::shared_ptr<RankState> rank,
                                          const CollectiveCall& call,
                                          const void* send,
                                          void* receive);
std::unique_ptr<Operation> MakeTransfers(std::shared_ptr<World> world,
                                         std::shared_ptr<RankState> rank,
                                         std::vector<Transfer> transfers);

}  // namespace phi::cuda_host
