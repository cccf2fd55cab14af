#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <string>
#include <thread>

#include "shard/rank.h"
#include "tests/unit/worker/fake_model.h"

namespace phi::service {

// A rank of FakeModel for tests of what stands above ranks: real plans in, tokens out, no weights.
class FakeRank : public shard::Rank {
 public:
  FakeRank(const shard::PlanLimits& limits, uint32_t num_tokens)
      : limits_(limits), model_(limits.num_blocks, num_tokens) {}

  absl::StatusOr<shard::StepResult> Execute(const shard::StepPlan& plan) override {
    const absl::Status valid = shard::ValidateStepPlan(plan, limits_);
    if (!valid.ok()) return valid;
    if (plan.step != steps_) return absl::InvalidArgumentError("a step out of order (I4)");
    ++steps_;
    if (plan.sequences.empty()) ++idle_steps_;
    std::this_thread::sleep_for(std::chrono::microseconds(step_us.load()));
    if (steps_ > fail_after) return absl::UnavailableError("a peer is gone");
    return model_.Run(plan);
  }
  const shard::ModelConfig& config() const override { return config_; }
  const shard::MemoryPlan& memory() const override { return memory_; }
  const shard::CollectiveStats& collective_stats() const override { return stats_; }
  std::string Description() const override { return "fake"; }

  uint64_t idle_steps() const { return idle_steps_; }

  std::atomic<int> step_us{200};
  std::atomic<uint64_t> fail_after{UINT64_MAX};

 private:
  shard::PlanLimits limits_;
  FakeModel model_;
  std::atomic<uint64_t> steps_{0};
  std::atomic<uint64_t> idle_steps_{0};
  shard::ModelConfig config_;
  shard::MemoryPlan memory_;
  shard::CollectiveStats stats_;
};

}  // namespace phi::service
