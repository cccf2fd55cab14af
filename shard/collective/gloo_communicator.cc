#include "shard/collective/gloo_communicator.h"

#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/file_store.h>
#include <gloo/transport/buffer.h>
#include <gloo/transport/tcp/device.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <exception>
#include <filesystem>
#include <fstream>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"

namespace phi::shard {
namespace {

// One message: what the kernel's socket buffers on loopback hold in any case (64 KiB), halved.
// Sends and receives are done by the calling thread, which saves two thread switches a message
// (half of the latency), so a rank may block in a send; with room for one message in each direction
// the exchange below always comes to an end: of all ranks blocked in sends, one is in the earliest
// round, and the peer it waits for has sent that round's message and is reading.
constexpr size_t kMessageFloats = 8192;

// Up to here, each rank sends its whole vector to each other and adds all of them: one exchange.
// Above, it adds one segment and sends the sum: two exchanges, 2 (N - 1) / N of the bytes instead
// of N - 1 times. Chosen by size alone; both add in rank order, so a sum does not depend on it
// (I1).
constexpr size_t kDirectFloatsMax = 16384;

constexpr int kSlot = 0;

int64_t Milliseconds(absl::Duration duration) {
  return std::max<int64_t>(1, absl::ToInt64Milliseconds(duration));
}

// Segment `index` of `size` values cut into `count`: [first, second).
std::pair<size_t, size_t> Segment(size_t size, size_t index, size_t count) {
  return {size * index / count, size * (index + 1) / count};
}

class GlooCommunicator final : public Communicator {
 public:
  GlooCommunicator(int rank, int world_size)
      : rank_(rank), world_size_(world_size), peers_(static_cast<size_t>(world_size)) {}

  // Throws Gloo's exceptions.
  void Connect(const GlooOptions& options);

  int rank() const override { return rank_; }
  int world_size() const override { return world_size_; }
  const CollectiveStats& stats() const override { return stats_; }

  absl::Status AllReduceSum(std::span<float> data) override {
    ++stats_.all_reduces;
    return Guarded("all-reduce", [&] {
      const size_t step = data.size() <= kDirectFloatsMax
                              ? kMessageFloats
                              : kMessageFloats * static_cast<size_t>(world_size_);
      for (size_t begin = 0; begin < data.size(); begin += step) {
        const std::span<float> part = data.subspan(begin, std::min(step, data.size() - begin));
        if (data.size() <= kDirectFloatsMax) {
          ReduceDirectly(part);
        } else {
          ReduceBySegments(part);
        }
      }
    });
  }

  absl::Status GatherToRoot(std::span<const float> send,
                            std::span<const size_t> counts,
                            std::span<float> receive) override {
    PHI_CHECK(counts.size() == peers_.size() && counts[static_cast<size_t>(rank_)] == send.size(),
              "gather of %zu values from rank %d",
              send.size(),
              rank_);
    ++stats_.gathers;
    return Guarded("gather", [&] {
      if (rank_ == 0) {
        ReceiveAll(send, counts, receive);
      } else {
        SendAll(send);
      }
    });
  }

 private:
  using Message = std::array<float, kMessageFloats>;

  struct Peer {
    std::unique_ptr<Message> received;
    std::unique_ptr<gloo::transport::Buffer> outbox;  // over outgoing_
    std::unique_ptr<gloo::transport::Buffer> inbox;   // over `received`
  };

  // Runs `collective`, timed; what it throws loses the group.
  template <typename Collective>
  absl::Status Guarded(const char* name, Collective collective);

  void ReduceDirectly(std::span<float> data);
  void ReduceBySegments(std::span<float> data);
  void ReceiveAll(std::span<const float> own,
                  std::span<const size_t> counts,
                  std::span<float> receive);
  void SendAll(std::span<const float> data);

  // Sends outgoing_[0, count) to `peer`; it may be changed afterwards.
  void Send(size_t peer, size_t count);
  std::span<const float> Receive(size_t peer, size_t count);
  // sum = the values of all ranks in rank order; `sum` holds this rank's own before. Reads the
  // peers' next message.
  void AddInRankOrder(std::span<float> sum);

  template <typename Action>
  void ForEachPeer(Action action) {
    for (size_t peer = 0; peer < peers_.size(); ++peer) {
      if (peer != static_cast<size_t>(rank_)) action(peer);
    }
  }

  const int rank_;
  const int world_size_;
  CollectiveStats stats_;
  absl::Status lost_;  // the first failure; nothing is tried after it
  Message outgoing_;
  Message own_;
  // Declared before the buffers, which refer to its pairs.
  std::shared_ptr<gloo::transport::Device> device_;
  std::unique_ptr<gloo::rendezvous::Context> context_;
  std::vector<Peer> peers_;
};

void GlooCommunicator::Connect(const GlooOptions& options) {
  gloo::transport::tcp::attr attr("127.0.0.1");
  device_ = gloo::transport::tcp::CreateDevice(attr);
  gloo::rendezvous::FileStore store(options.store_dir);
  context_ = std::make_unique<gloo::rendezvous::Context>(rank_, world_size_);
  context_->setTimeout(std::chrono::milliseconds(Milliseconds(options.timeout)));
  context_->connectFullMesh(store, device_);
  ForEachPeer([&](size_t index) {
    Peer& peer = peers_[index];
    auto& pair = context_->getPair(static_cast<int>(index));
    peer.received = std::make_unique<Message>();
    peer.outbox = pair->createSendBuffer(kSlot, outgoing_.data(), sizeof(Message));
    peer.inbox = pair->createRecvBuffer(kSlot, peer.received->data(), sizeof(Message));
    pair->setSync(/*enable=*/true, /*busyPoll=*/false);
  });
  // A first sum shows that the mesh works, and holds every rank until all are connected.
  std::array<float, 1> ones{1.0F};
  ReduceDirectly(ones);
  PHI_CHECK(ones[0] == static_cast<float>(world_size_),
            "first sum of %d ranks is %f",
            world_size_,
            static_cast<double>(ones[0]));
  stats_ = {};
}

template <typename Collective>
absl::Status GlooCommunicator::Guarded(const char* name, Collective collective) {
  PHI_RETURN_IF_ERROR(lost_);
  const auto start = std::chrono::steady_clock::now();
  try {
    collective();
  } catch (const std::exception& error) {
    lost_ = absl::UnavailableError(absl::StrFormat("%s on rank %d: %s", name, rank_, error.what()));
  }
  stats_.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return lost_;
}

void GlooCommunicator::ReduceDirectly(std::span<float> data) {
  std::copy(data.begin(), data.end(), outgoing_.begin());
  ForEachPeer([&](size_t peer) { Send(peer, data.size()); });
  AddInRankOrder(data);
}

void GlooCommunicator::ReduceBySegments(std::span<float> data) {
  const auto segment = [&](size_t rank) {
    const auto [begin, end] = Segment(data.size(), rank, peers_.size());
    return data.subspan(begin, end - begin);
  };
  ForEachPeer([&](size_t peer) {
    const std::span<float> theirs = segment(peer);
    std::copy(theirs.begin(), theirs.end(), outgoing_.begin());
    Send(peer, theirs.size());
  });
  const std::span<float> mine = segment(static_cast<size_t>(rank_));
  AddInRankOrder(mine);
  std::copy(mine.begin(), mine.end(), outgoing_.begin());
  ForEachPeer([&](size_t peer) { Send(peer, mine.size()); });
  ForEachPeer([&](size_t peer) {
    const std::span<float> theirs = segment(peer);
    const std::span<const float> sum = Receive(peer, theirs.size());
    std::copy(sum.begin(), sum.end(), theirs.begin());
  });
}

void GlooCommunicator::AddInRankOrder(std::span<float> sum) {
  std::copy(sum.begin(), sum.end(), own_.begin());
  for (size_t rank = 0; rank < peers_.size(); ++rank) {
    const bool is_own = rank == static_cast<size_t>(rank_);
    const std::span<const float> values =
        is_own ? std::span<const float>(own_) : Receive(rank, sum.size());
    for (size_t i = 0; i < sum.size(); ++i) sum[i] = rank == 0 ? values[i] : sum[i] + values[i];
  }
}

void GlooCommunicator::ReceiveAll(std::span<const float> own,
                                  std::span<const size_t> counts,
                                  std::span<float> receive) {
  if (own.data() != receive.data()) std::copy(own.begin(), own.end(), receive.begin());
  size_t to = own.size();
  for (size_t peer = 1; peer < peers_.size(); ++peer) {
    for (size_t left = counts[peer]; left > 0;) {
      const size_t count = std::min(left, kMessageFloats);
      const std::span<const float> values = Receive(peer, count);
      std::copy(values.begin(), values.end(), receive.subspan(to).begin());
      to += count;
      left -= count;
    }
  }
}

void GlooCommunicator::SendAll(std::span<const float> data) {
  for (size_t begin = 0; begin < data.size(); begin += kMessageFloats) {
    const std::span<const float> part =
        data.subspan(begin, std::min(kMessageFloats, data.size() - begin));
    std::copy(part.begin(), part.end(), outgoing_.begin());
    Send(0, part.size());
  }
}

void GlooCommunicator::Send(size_t peer, size_t count) {
  const size_t bytes = count * sizeof(float);
  peers_[peer].outbox->send(0, bytes);
  peers_[peer].outbox->waitSend();
  stats_.bytes_sent += bytes;
}

std::span<const float> GlooCommunicator::Receive(size_t peer, size_t count) {
  peers_[peer].inbox->waitRecv();
  return std::span<const float>(*peers_[peer].received).first(count);
}

std::filesystem::path PresenceFile(const GlooOptions& options, int rank) {
  return std::filesystem::path(options.store_dir) / absl::StrFormat("rank-%d-is-here", rank);
}

// Says that this rank is here and waits for the others. Gloo's own rendezvous would name a hash,
// and be late by up to a second.
absl::Status WaitForAllRanks(int rank, int world_size, const GlooOptions& options) {
  const auto deadline =
      std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(options.connect_timeout);
  if (!std::ofstream(PresenceFile(options, rank))) {
    return absl::UnavailableError(absl::StrFormat("cannot write to %s", options.store_dir));
  }
  for (;;) {
    std::string missing;
    for (int other = 0; other < world_size; ++other) {
      std::error_code error;
      if (!std::filesystem::exists(PresenceFile(options, other), error))
        missing += absl::StrFormat(" %d", other);
    }
    if (missing.empty()) return absl::OkStatus();
    if (std::chrono::steady_clock::now() >= deadline) {
      return absl::DeadlineExceededError(
          absl::StrFormat("rank %d waited in vain for ranks%s of %d", rank, missing, world_size));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Communicator>> MakeGlooCommunicator(int rank,
                                                                   int world_size,
                                                                   const GlooOptions& options) {
  if (world_size < 2 || rank < 0 || rank >= world_size) {
    return absl::InvalidArgumentError(absl::StrFormat("rank %d of %d", rank, world_size));
  }
  std::signal(SIGPIPE, SIG_IGN);
  PHI_RETURN_IF_ERROR(WaitForAllRanks(rank, world_size, options));
  auto communicator = std::make_unique<GlooCommunicator>(rank, world_size);
  try {
    communicator->Connect(options);
  } catch (const std::exception& error) {
    return absl::UnavailableError(
        absl::StrFormat("connecting rank %d of %d: %s", rank, world_size, error.what()));
  }
  return communicator;
}

}  // namespace phi::shard
