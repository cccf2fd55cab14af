#include "shard/collective/single_rank_communicator.h"

#include <algorithm>

#include "kernels/base/check.h"

namespace phi::shard {
namespace {

class SingleRankCommunicator final : public Communicator {
 public:
  int rank() const override { return 0; }
  int world_size() const override { return 1; }

  absl::Status AllReduceSum(std::span<float> /*data*/) override {
    ++stats_.all_reduces;
    return absl::OkStatus();
  }

  absl::Status GatherToRoot(std::span<const float> send,
                            std::span<const size_t> counts,
                            std::span<float> receive) override {
    PHI_CHECK(counts.size() == 1 && counts[0] == send.size() && receive.size() >= send.size(),
              "gather of %zu values into %zu",
              send.size(),
              receive.size());
    ++stats_.gathers;
    if (send.data() != receive.data()) std::copy(send.begin(), send.end(), receive.begin());
    return absl::OkStatus();
  }

  const CollectiveStats& stats() const override { return stats_; }

 private:
  CollectiveStats stats_;
};

}  // namespace

std::unique_ptr<Communicator> MakeSingleRankCommunicator() {
  return std::make_unique<SingleRankCommunicator>();
}

}  // namespace phi::shard
