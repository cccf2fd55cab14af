#include "service/worker/group/measured_rank.h"

#include <chrono>
#include <utility>

namespace phi::service {
namespace {

class MeasuredCommunicator final : public shard::Communicator {
 public:
  MeasuredCommunicator(std::unique_ptr<shard::Communicator> communicator, const MetricPage& page)
      : communicator_(std::move(communicator)),
        all_reduce_(page.Get(MetricId::kCollectiveSeconds, {CollectiveLabel::kAllReduce})),
        gather_(page.Get(MetricId::kCollectiveSeconds, {CollectiveLabel::kGather})),
        errors_(page.Get(MetricId::kCollectiveErrorsTotal)) {}

  int rank() const override { return communicator_->rank(); }
  int world_size() const override { return communicator_->world_size(); }
  const shard::CollectiveStats& stats() const override { return communicator_->stats(); }

  absl::Status AllReduceSum(std::span<float> data) override {
    return Measure(all_reduce_, [&] { return communicator_->AllReduceSum(data); });
  }
  absl::Status GatherToRoot(std::span<const float> send,
                            std::span<const size_t> counts,
                            std::span<float> receive) override {
    return Measure(gather_, [&] { return communicator_->GatherToRoot(send, counts, receive); });
  }

 private:
  template <typename Call>
  absl::Status Measure(const MetricPage::Series& series, Call call) {
    const auto start = std::chrono::steady_clock::now();
    absl::Status status = call();
    series.Observe(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    if (!status.ok()) errors_.Add(1);
    return status;
  }

  std::unique_ptr<shard::Communicator> communicator_;
  MetricPage::Series all_reduce_;
  MetricPage::Series gather_;
  MetricPage::Series errors_;
};

class MeasuredRank final : public shard::Rank {
 public:
  MeasuredRank(std::unique_ptr<shard::Rank> rank,
               int rank_index,
               const MetricPage& page,
               RankSlot* slot)
      : rank_(std::move(rank)),
        seconds_(page.Get(MetricId::kCollectiveSecondsTotal, {rank_index})),
        bytes_(page.Get(MetricId::kCollectiveBytesTotal, {rank_index})),
        slot_(slot) {}

  absl::StatusOr<shard::StepResult> Execute(const shard::StepPlan& plan) override {
    absl::StatusOr<shard::StepResult> result = rank_->Execute(plan);
    const shard::CollectiveStats& stats = rank_->collective_stats();
    // Differences: the page's totals outlive this process.
    seconds_.Add(stats.seconds - counted_.seconds);
    bytes_.Add(static_cast<double>(stats.bytes_sent - counted_.bytes_sent));
    if (!plan.sequences.empty()) slot_->step_collective_seconds = stats.seconds - counted_.seconds;
    counted_ = stats;
    return result;
  }
  const shard::ModelConfig& config() const override { return rank_->config(); }
  const shard::MemoryPlan& memory() const override { return rank_->memory(); }
  const shard::CollectiveStats& collective_stats() const override {
    return rank_->collective_stats();
  }
  std::string Description() const override { return rank_->Description(); }

 private:
  std::unique_ptr<shard::Rank> rank_;
  MetricPage::Series seconds_;
  MetricPage::Series bytes_;
  RankSlot* const slot_;
  shard::CollectiveStats counted_;
};

}  // namespace

std::unique_ptr<shard::Communicator> MakeMeasuredCommunicator(
    std::unique_ptr<shard::Communicator> communicator, const MetricPage& page) {
  return std::make_unique<MeasuredCommunicator>(std::move(communicator), page);
}

std::unique_ptr<shard::Rank> MakeMeasuredRank(std::unique_ptr<shard::Rank> rank,
                                              int rank_index,
                                              const MetricPage& page,
                                              RankSlot* slot) {
  return std::make_unique<MeasuredRank>(std::move(rank), rank_index, page, slot);
}

}  // namespace phi::service
