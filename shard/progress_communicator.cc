#include "shard/progress_communicator.h"

#include <utility>

namespace phi::shard {
namespace {

class ProgressCommunicator final : public Communicator {
 public:
  ProgressCommunicator(std::unique_ptr<Communicator> communicator, RankProgress* progress)
      : communicator_(std::move(communicator)), progress_(*progress) {}

  int rank() const override { return communicator_->rank(); }
  int world_size() const override { return communicator_->world_size(); }
  const CollectiveStats& stats() const override { return communicator_->stats(); }

  absl::Status AllReduceSum(std::span<float> data) override {
    Enter();
    return Leave(communicator_->AllReduceSum(data));
  }

  absl::Status GatherToRoot(std::span<const float> send,
                            std::span<const size_t> counts,
                            std::span<float> receive) override {
    Enter();
    return Leave(communicator_->GatherToRoot(send, counts, receive));
  }

 private:
  void Enter() {
    progress_.collective_index.fetch_add(1);
    progress_.activity = RankProgress::kInCollective;
  }
  absl::Status Leave(absl::Status status) {
    progress_.activity = RankProgress::kComputing;
    return status;
  }

  std::unique_ptr<Communicator> communicator_;
  RankProgress& progress_;
};

}  // namespace

std::unique_ptr<Communicator> MakeProgressCommunicator(std::unique_ptr<Communicator> communicator,
                                                       RankProgress* progress) {
  return std::make_unique<ProgressCommunicator>(std::move(communicator), progress);
}

}  // namespace phi::shard
