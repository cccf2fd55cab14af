#include "tests/cuda_host/nccl_world.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "tests/cuda_host/grid.h"

namespace phi::cuda_host {
namespace {

using Clock = std::chrono::steady_clock;

float Load(const std::byte* at, ncclDataType_t type) {
  if (type == ncclFloat32) {
    float value = 0;
    std::memcpy(&value, at, sizeof(value));
    return value;
  }
  uint16_t bits = 0;
  std::memcpy(&bits, at, sizeof(bits));
  if (type == ncclFloat16) return __half2float(__half(__half_raw{bits}));
  return __bfloat162float(__nv_bfloat16(__nv_bfloat16_raw{bits}));
}

void Store(float value, std::byte* at, ncclDataType_t type) {
  if (type == ncclFloat32) {
    std::memcpy(at, &value, sizeof(value));
  } else if (type == ncclFloat16) {
    const auto raw = static_cast<__half_raw>(__float2half_rn(value));
    std::memcpy(at, &raw.x, sizeof(raw.x));
  } else {
    const auto raw = static_cast<__nv_bfloat16_raw>(__float2bfloat16_rn(value));
    std::memcpy(at, &raw.x, sizeof(raw.x));
  }
}

// As a ring sums: each rank's share of the vector begins with another rank, so that nobody can
// lean on an order.
std::vector<std::byte> RingSum(const Gathering& gathering) {
  const CollectiveCall& call = gathering.call;
  const size_t element = TypeBytes(call.type);
  const size_t num_ranks = gathering.inputs.size();
  std::vector<std::byte> result(call.count * element);
  for (size_t i = 0; i < call.count; ++i) {
    const size_t first = i * num_ranks / call.count;
    float sum = Load(&gathering.inputs[first][i * element], call.type);
    for (size_t r = 1; r < num_ranks; ++r) {
      sum += Load(&gathering.inputs[(first + r) % num_ranks][i * element], call.type);
    }
    Store(sum, &result[i * element], call.type);
  }
  return result;
}

void Finish(Gathering& gathering) {
  if (gathering.call.reduction >= 0) {
    gathering.result = RingSum(gathering);
  } else if (gathering.call.root >= 0) {
    gathering.result = gathering.inputs[static_cast<size_t>(gathering.call.root)];
  } else {
    for (const auto& input : gathering.inputs) {
      gathering.result.insert(gathering.result.end(), input.begin(), input.end());
    }
  }
}

// A wait of one operation, which ends in a report when nobody comes.
class Patience {
 public:
  void Check(const World& world) {
    if (!since_.has_value()) since_ = Clock::now();
    const double seconds = std::chrono::duration<double>(Clock::now() - *since_).count();
    if (seconds > CurrentSettings().deadlock_seconds) {
      Die("NCCL deadlock after %.1f s: %s", seconds, world.Report().c_str());
    }
  }

 private:
  std::optional<Clock::time_point> since_;
};

class CollectiveOperation : public Operation {
 public:
  CollectiveOperation(std::shared_ptr<World> world,
                      std::shared_ptr<RankState> rank,
                      CollectiveCall call,
                      const void* send,
                      void* receive)
      : world_(std::move(world)),
        rank_(std::move(rank)),
        call_(std::move(call)),
        send_(send),
        receive_(receive) {}

  bool Run(Device& device) override {
    const std::lock_guard lock(world_->mutex);
    if (rank_->aborted) return true;
    if (!arrived_) Arrive(device);
    Gathering& gathering = world_->gatherings[number_];
    if (gathering.num_arrived < world_->num_ranks || rank_->async_error != ncclSuccess) {
      patience_.Check(*world_);
      return false;
    }
    Leave(gathering);
    return true;
  }

  std::unique_ptr<Operation> Clone() const override {
    return std::make_unique<CollectiveOperation>(world_, rank_, call_, send_, receive_);
  }

  void Retire(Device& device) override { ++device.counts.collectives; }

 private:
  bool IsRoot() const { return call_.root == rank_->rank; }
  // Broadcast reads on the root only, Reduce writes there only.
  bool Reads() const { return call_.root < 0 || call_.reduction >= 0 || IsRoot(); }
  bool Writes() const { return call_.root < 0 || call_.reduction < 0 || IsRoot(); }

  void Arrive(const Device& device) {
    arrived_ = true;
    number_ = rank_->num_calls++;
    rank_->waits_in = call_.ToString() + " #" + std::to_string(number_);
    if (const int error = InjectedError("ncclAsync"); error != 0) {
      rank_->async_error = static_cast<ncclResult_t>(error);
    }
    const size_t bytes = call_.count * TypeBytes(call_.type);
    if (Reads() && bytes > 0 && !device.memory.ContainsDevice(send_, bytes)) {
      Die("%s: rank %d sends %zu bytes at %p, which is not in one allocation of its device",
          call_.kind.c_str(),
          rank_->rank,
          bytes,
          send_);
    }
    Gathering& gathering = world_->gatherings[number_];
    if (gathering.num_arrived == 0) {
      const auto num_ranks = static_cast<size_t>(world_->num_ranks);
      gathering.call = call_;
      gathering.first_rank = rank_->rank;
      gathering.inputs.resize(num_ranks);
      gathering.arrived.resize(num_ranks);
    } else if (gathering.call != call_) {
      Die("mismatched collective, call #%llu of the communicator: rank %d calls %s, rank %d %s",
          static_cast<unsigned long long>(number_),
          gathering.first_rank,
          gathering.call.ToString().c_str(),
          rank_->rank,
          call_.ToString().c_str());
    }
    if (Reads()) {
      const auto* const from = static_cast<const std::byte*>(send_);
      gathering.inputs[static_cast<size_t>(rank_->rank)].assign(from, from + bytes);
    }
    if (++gathering.num_arrived == world_->num_ranks) {
      Finish(gathering);
      NotifyProgress();
    }
  }

  void Leave(Gathering& gathering) {
    if (Writes() && !gathering.result.empty()) {
      std::memcpy(receive_, gathering.result.data(), gathering.result.size());
    }
    rank_->waits_in.clear();
    if (++gathering.num_left == world_->num_ranks) world_->gatherings.erase(number_);
  }

  std::shared_ptr<World> world_;
  std::shared_ptr<RankState> rank_;
  CollectiveCall call_;
  const void* send_;
  void* receive_;
  bool arrived_ = false;
  uint64_t number_ = 0;
  Patience patience_;
};

// The sends and receives of one group: none waits for another of the same group.
class TransferOperation : public Operation {
 public:
  TransferOperation(std::shared_ptr<World> world,
                    std::shared_ptr<RankState> rank,
                    std::vector<Transfer> transfers)
      : world_(std::move(world)), rank_(std::move(rank)), transfers_(std::move(transfers)) {}

  bool Run(Device& /*device*/) override {
    const std::lock_guard lock(world_->mutex);
    if (rank_->aborted) return true;
    if (done_.empty()) Start();
    bool all = true;
    for (size_t i = 0; i < transfers_.size(); ++i) {
      if (!done_[i]) done_[i] = transfers_[i].is_send ? *received_[i] : Receive(transfers_[i]);
      all &= done_[i];
    }
    if (!all || rank_->async_error != ncclSuccess) {
      patience_.Check(*world_);
      return false;
    }
    rank_->waits_in.clear();
    NotifyProgress();
    return true;
  }

  std::unique_ptr<Operation> Clone() const override {
    return std::make_unique<TransferOperation>(world_, rank_, transfers_);
  }

  void Retire(Device& device) override { ++device.counts.collectives; }

 private:
  void Start() {
    done_.resize(transfers_.size());
    received_.resize(transfers_.size());
    if (const int error = InjectedError("ncclAsync"); error != 0) {
      rank_->async_error = static_cast<ncclResult_t>(error);
    }
    for (size_t i = 0; i < transfers_.size(); ++i) {
      const Transfer& transfer = transfers_[i];
      rank_->waits_in +=
          (transfer.is_send ? " ncclSend to " : " ncclRecv from ") + std::to_string(transfer.peer);
      if (!transfer.is_send) continue;
      const auto* const from = static_cast<const std::byte*>(transfer.buffer);
      received_[i] = std::make_shared<bool>(false);
      world_->messages[{rank_->rank, transfer.peer}].push_back(
          {.count = transfer.count,
           .type = transfer.type,
           .data = {from, from + transfer.count * TypeBytes(transfer.type)},
           .received = received_[i]});
    }
    NotifyProgress();
  }

  bool Receive(const Transfer& transfer) {
    auto& queue = world_->messages[{transfer.peer, rank_->rank}];
    if (queue.empty()) return false;
    const Message& message = queue.front();
    if (message.count != transfer.count || message.type != transfer.type) {
      Die("mismatched transfer: rank %d sends %zu elements of type %d to rank %d, which expects "
          "%zu "
          "of type %d",
          transfer.peer,
          message.count,
          message.type,
          rank_->rank,
          transfer.count,
          transfer.type);
    }
    if (!message.data.empty()) {
      std::memcpy(transfer.buffer, message.data.data(), message.data.size());
    }
    *message.received = true;
    queue.pop_front();
    NotifyProgress();
    return true;
  }

  std::shared_ptr<World> world_;
  std::shared_ptr<RankState> rank_;
  std::vector<Transfer> transfers_;
  std::vector<bool> done_;
  std::vector<std::shared_ptr<bool>> received_;
  Patience patience_;
};

}  // namespace

size_t TypeBytes(ncclDataType_t type) {
  switch (type) {
    case ncclInt8:
    case ncclUint8:
      return 1;
    case ncclFloat16:
    case ncclBfloat16:
      return 2;
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32:
      return 4;
    default:
      return 8;
  }
}

std::string CollectiveCall::ToString() const {
  return kind + "(count " + std::to_string(count) + ", type " + std::to_string(type) +
         (reduction >= 0 ? ", op " + std::to_string(reduction) : "") +
         (root >= 0 ? ", root " + std::to_string(root) : "") + ")";
}

bool World::AllEnded() const {
  return std::all_of(ranks.begin(), ranks.end(), [](const auto& rank) {
    return rank != nullptr && (rank->ended || rank->aborted);
  });
}

std::string World::Report() const {
  std::string report;
  for (int rank = 0; rank < num_ranks; ++rank) {
    const auto& state = ranks[static_cast<size_t>(rank)];
    report += "rank " + std::to_string(rank);
    if (state == nullptr) {
      report += " never joined; ";
    } else if (state->waits_in.empty()) {
      report += " is elsewhere after " + std::to_string(state->num_calls) + " collectives; ";
    } else {
      report += " waits in " + state->waits_in + "; ";
    }
  }
  return report;
}

std::unique_ptr<Operation> MakeCollective(std::shared_ptr<World> world,
                                          std::shared_ptr<RankState> rank,
                                          const CollectiveCall& call,
                                          const void* send,
                                          void* receive) {
  return std::make_unique<CollectiveOperation>(
      std::move(world), std::move(rank), call, send, receive);
}

std::unique_ptr<Operation> MakeTransfers(std::shared_ptr<World> world,
                                         std::shared_ptr<RankState> rank,
                                         std::vector<Transfer> transfers) {
  return std::make_unique<TransferOperation>(
      std::move(world), std::move(rank), std::move(transfers));
}

}  // namespace phi::cuda_host
