#include "shard/collective/nccl_communicator.h"

#include <cuda_runtime_api.h>
#include <nccl.h>
#include <stdlib.h>

#include <cstring>
#include <mutex>
#include <utility>

#include "absl/strings/str_format.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"

namespace phi::shard {
namespace {

absl::Status NcclStatus(ncclResult_t result, std::string_view what) {
  if (result == ncclSuccess) return absl::OkStatus();
  return absl::UnavailableError(absl::StrFormat("%s: %s", what, ncclGetErrorString(result)));
}

// One host is all that a group spans: its ranks need no address that others can reach, nor the
// port by which NCCL offers its state.
void MeetOnLoopback() {
  static std::once_flag once;
  std::call_once(once, [] {
    setenv("NCCL_SOCKET_IFNAME", "lo", /*overwrite=*/0);
    setenv("NCCL_RAS_ENABLE", "0", /*overwrite=*/0);
  });
}

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(int rank,
                   int world_size,
                   kernels::CudaBackend& backend,
                   const NcclOptions& options)
      : rank_(rank), world_size_(world_size), backend_(backend), options_(options) {}

  ~NcclCommunicator() override {
    backend_.CheckWhileWaiting(nullptr);
    // After an error a peer may never come to the end that ncclCommDestroy waits for.
    if (!options_.destroy_together || comm_ == nullptr || !Check().ok()) return;
    // It also waits until no graph has the communicator's collectives in it.
    backend_.ForgetGraphs();
    static_cast<void>(ncclCommDestroy(comm_));
  }
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

  absl::Status Connect(const std::string& unique_id);

  int rank() const override { return rank_; }
  int world_size() const override { return world_size_; }
  const CollectiveStats& stats() const override { return stats_; }

  absl::Status AllReduceSum(std::span<float> data) override;
  absl::Status GatherToRoot(std::span<const float> send,
                            std::span<const size_t> counts,
                            std::span<float> receive) override;

 private:
  cudaStream_t stream() const { return static_cast<cudaStream_t>(backend_.stream()); }
  // The first error since the start; never waits.
  absl::Status Check();
  absl::Status Note(ncclResult_t result, std::string_view what) {
    if (lost_.ok()) lost_ = NcclStatus(result, what);
    return lost_;
  }
  absl::Status SumInRankOrder(std::span<float> data);
  absl::Status ReceiveAll(std::span<const size_t> counts, float* to);

  const int rank_;
  const int world_size_;
  kernels::CudaBackend& backend_;
  const NcclOptions options_;
  ncclComm_t comm_ = nullptr;
  std::unique_ptr<kernels::DeviceBuffer> gathered_;  // [world_size, max_values], with rank_order
  absl::Status lost_;
  CollectiveStats stats_;
};

absl::Status NcclCommunicator::Connect(const std::string& unique_id) {
  if (world_size_ == 1) return absl::OkStatus();
  ncclUniqueId id{};
  if (unique_id.size() != sizeof(id.internal)) {
    return absl::InvalidArgumentError(absl::StrFormat("a unique id of %d bytes", unique_id.size()));
  }
  std::memcpy(id.internal, unique_id.data(), sizeof(id.internal));
  if (options_.rank_order) {
    const auto values = static_cast<size_t>(world_size_) * static_cast<size_t>(options_.max_values);
    PHI_ASSIGN_OR_RETURN(gathered_, backend_.Allocate(values * sizeof(float)));
  }
  MeetOnLoopback();
  PHI_RETURN_IF_ERROR(
      Note(ncclCommInitRank(&comm_, world_size_, id, rank_), "connecting the ranks by NCCL"));
  backend_.CheckWhileWaiting([this] { return Check(); });
  return absl::OkStatus();
}

absl::Status NcclCommunicator::Check() {
  if (!lost_.ok()) return lost_;
  ncclResult_t state = ncclSuccess;
  PHI_RETURN_IF_ERROR(Note(ncclCommGetAsyncError(comm_, &state), "NCCL's state"));
  if (state == ncclInProgress) return absl::OkStatus();
  return Note(state, "NCCL lost a rank");
}

absl::Status NcclCommunicator::AllReduceSum(std::span<float> data) {
  ++stats_.all_reduces;
  if (world_size_ == 1 || data.empty()) return absl::OkStatus();
  stats_.bytes_sent += data.size_bytes();
  if (backend_.IsReplay()) return lost_;
  if (options_.rank_order) return SumInRankOrder(data);
  return Note(
      ncclAllReduce(data.data(), data.data(), data.size(), ncclFloat32, ncclSum, comm_, stream()),
      "ncclAllReduce");
}

absl::Status NcclCommunicator::SumInRankOrder(std::span<float> data) {
  const auto count = static_cast<int64_t>(data.size());
  PHI_CHECK(count <= options_.max_values, "an all-reduce of %zu values", data.size());
  auto* gathered = reinterpret_cast<float*>(gathered_->data());
  PHI_RETURN_IF_ERROR(
      Note(ncclAllGather(data.data(), gathered, data.size(), ncclFloat32, comm_, stream()),
           "ncclAllGather"));
  backend_.SumRanks(gathered, world_size_, count, data.data());
  return absl::OkStatus();
}

absl::Status NcclCommunicator::GatherToRoot(std::span<const float> send,
                                            std::span<const size_t> counts,
                                            std::span<float> receive) {
  PHI_CHECK(counts.size() == static_cast<size_t>(world_size_) &&
                counts[static_cast<size_t>(rank_)] == send.size(),
            "gather of %zu values among %zu ranks",
            send.size(),
            counts.size());
  ++stats_.gathers;
  if (rank_ > 0) {
    if (send.empty()) return absl::OkStatus();
    stats_.bytes_sent += send.size_bytes();
    return Note(ncclSend(send.data(), send.size(), ncclFloat32, 0, comm_, stream()), "ncclSend");
  }
  size_t total = 0;
  for (const size_t count : counts) total += count;
  PHI_CHECK(receive.size() >= total, "gather of %zu values into %zu", total, receive.size());
  if (!send.empty() && send.data() != receive.data()) {
    const cudaError_t error = cudaMemcpyAsync(
        receive.data(), send.data(), send.size_bytes(), cudaMemcpyDeviceToDevice, stream());
    if (error != cudaSuccess) return absl::InternalError(cudaGetErrorString(error));
  }
  return world_size_ == 1 ? absl::OkStatus() : ReceiveAll(counts, receive.data());
}

absl::Status NcclCommunicator::ReceiveAll(std::span<const size_t> counts, float* to) {
  PHI_RETURN_IF_ERROR(Note(ncclGroupStart(), "ncclGroupStart"));
  to += counts[0];
  for (int rank = 1; rank < world_size_; ++rank) {
    const size_t count = counts[static_cast<size_t>(rank)];
    if (count > 0) {
      static_cast<void>(Note(ncclRecv(to, count, ncclFloat32, rank, comm_, stream()), "ncclRecv"));
    }
    to += count;
  }
  return Note(ncclGroupEnd(), "ncclGroupEnd");
}

}  // namespace

absl::StatusOr<std::string> MakeNcclUniqueId() {
  MeetOnLoopback();
  ncclUniqueId id{};
  PHI_RETURN_IF_ERROR(NcclStatus(ncclGetUniqueId(&id), "ncclGetUniqueId"));
  return std::string(id.internal, sizeof(id.internal));
}

absl::StatusOr<std::unique_ptr<Communicator>> MakeNcclCommunicator(int rank,
                                                                   int world_size,
                                                                   const std::string& unique_id,
                                                                   kernels::CudaBackend& backend,
                                                                   const NcclOptions& options) {
  if (rank < 0 || rank >= world_size) {
    return absl::InvalidArgumentError(absl::StrFormat("rank %d of %d", rank, world_size));
  }
  auto communicator = std::make_unique<NcclCommunicator>(rank, world_size, backend, options);
  PHI_RETURN_IF_ERROR(communicator->Connect(unique_id));
  return communicator;
}

}  // namespace phi::shard
