#include "service/worker/group/capacity_plan.h"

#include <gtest/gtest.h>

#include "kernels/cpu/cpu_backend.h"

namespace phi::service {
namespace {

shard::ModelConfig Config() {
  shard::ModelConfig config;
  config.vocab_size = 512;
  config.hidden_size = 96;
  config.intermediate_size = 384;
  config.num_layers = 2;
  config.num_heads = 3;
  config.num_key_value_heads = 3;
  config.head_dim = 32;
  config.rotary_dim = 16;
  config.max_positions = 100;
  return config;
}

class CapacityPlanTest : public testing::Test {
 protected:
  CapacityPlanTest()
      : backend_(*kernels::MakeCpuBackend(
            {.dtype = kernels::DType::kFloat32, .isa = kernels::Isa::kAvx2})) {}
  absl::StatusOr<CapacityPlan> Plan(uint64_t free_bytes, uint64_t kv_bytes = 0) {
    return PlanWith({free_bytes}, kv_bytes);
  }
  absl::StatusOr<CapacityPlan> PlanWith(const std::vector<uint64_t>& free_bytes,
                                        uint64_t kv_bytes = 0,
                                        uint64_t scratch_bytes = 0) {
    return PlanCapacity({.max_sequences = 4,
                         .max_step_tokens = 64,
                         .world_size = 2,
                         .kv_cache_bytes = kv_bytes,
                         .free_bytes = free_bytes,
                         .scratch_bytes = scratch_bytes},
                        Config(),
                        *backend_);
  }
  std::unique_ptr<kernels::Backend> backend_;
};

TEST_F(CapacityPlanTest, NoMoreThanEverySequenceCanUse) {
  const auto plan = Plan(uint64_t{1} << 30);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->limits.num_kv_blocks, 4u * 7);  // 100 positions are 7 blocks of 16
  ASSERT_EQ(plan->ranks.size(), 2u);
  EXPECT_EQ(plan->ranks[0].kv_cache, 2 * plan->ranks[1].kv_cache) << "2 heads and 1";
}

TEST_F(CapacityPlanTest, FitsFreeMemory) {
  const uint64_t whole = Plan(uint64_t{1} << 30)->total_bytes();
  const auto plan = Plan(whole - 1);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_LT(plan->limits.num_kv_blocks, 4u * 7);
  EXPECT_GE(plan->limits.num_kv_blocks, 7u);
  EXPECT_LE(plan->total_bytes(), whole - 1);
  EXPECT_TRUE(absl::IsResourceExhausted(Plan(1 << 10).status()));
}

TEST_F(CapacityPlanTest, ExplicitBytesAreOfOneRank) {
  const uint64_t block_bytes = Plan(uint64_t{1} << 30)->ranks[0].kv_cache / 28;
  const auto plan = Plan(uint64_t{1} << 30, 3 * block_bytes + 1);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->limits.num_kv_blocks, 3u);
  EXPECT_TRUE(absl::IsInvalidArgument(Plan(uint64_t{1} << 30, block_bytes - 1).status()));
  EXPECT_TRUE(absl::IsResourceExhausted(Plan(1 << 10, block_bytes).status()));
}

TEST_F(CapacityPlanTest, AGpuOfEachRankIsFilledByItself) {
  constexpr uint64_t kPlenty = uint64_t{1} << 30;
  const std::vector<shard::MemoryPlan> ranks = PlanWith({kPlenty, kPlenty})->ranks;
  // Just too little for all of the second rank's cache: its GPU decides for both.
  const auto plan = PlanWith({kPlenty, ranks[1].total() - 1});
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_LT(plan->limits.num_kv_blocks, 4u * 7);
  EXPECT_GE(plan->limits.num_kv_blocks, 7u);
  EXPECT_LE(plan->ranks[1].total(), ranks[1].total() - 1);
  EXPECT_TRUE(absl::IsResourceExhausted(PlanWith({1 << 10, kPlenty}).status()));
  EXPECT_TRUE(absl::IsResourceExhausted(PlanWith({kPlenty, 1 << 10}).status()));
}

TEST_F(CapacityPlanTest, ScratchIsTakenOnEveryRank) {
  constexpr uint64_t kScratch = uint64_t{1} << 20;
  const uint64_t whole = Plan(uint64_t{1} << 30)->total_bytes();
  const uint64_t cache = Plan(uint64_t{1} << 30)->ranks[0].kv_cache;
  EXPECT_TRUE(PlanWith({whole + 2 * kScratch}, cache, kScratch).ok());
  EXPECT_TRUE(
      absl::IsResourceExhausted(PlanWith({whole + 2 * kScratch - 1}, cache, kScratch).status()));
}

}  // namespace
}  // namespace phi::service
