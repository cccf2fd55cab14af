#include "service/router/dispatcher.h"

#include <gtest/gtest.h>

#include <random>
#include <tuple>
#include <vector>

#include "service/api/error.h"

namespace phi::service {
namespace {

constexpr RequestCost kCost{.prompt_tokens = 10, .max_new_tokens = 10};

ReplicaLoad Load(bool ready, uint64_t outstanding, uint32_t queued = 0, uint32_t kv = 1000) {
  return {.ready = ready,
          .outstanding_tokens = outstanding,
          .queued_requests = 0,
          .max_queued_requests = 1,
          .queued_tokens = queued,
          .max_queued_tokens = 1000,
          .kv_tokens = kv};
}

// Whatever the loads: the choice is ready, fits, is not excluded, and none such has less to do.
TEST(ChooseReplicaTest, PropertyHoldsForRandomLoads) {
  std::mt19937 random(20260101);
  const auto below = [&](uint32_t bound) {
    return std::uniform_int_distribution<uint32_t>(0, bound - 1)(random);
  };
  for (int round = 0; round < 20'000; ++round) {
    std::vector<ReplicaLoad> loads;
    for (uint32_t i = below(6); i > 0; --i)
      loads.push_back(Load(below(3) != 0, below(4), below(3), 19 + below(3)));
    const std::optional<size_t> excluded =
        below(2) == 0 ? std::nullopt : std::optional<size_t>(below(6));
    const auto chosen = ChooseReplica(loads, kCost, excluded, below(10));
    const auto eligible = [&](size_t i) {
      return loads[i].ready && loads[i].kv_tokens >= kCost.kv_tokens() && excluded != i;
    };
    const auto rank = [&](size_t i) {
      return std::tuple(loads[i].outstanding_tokens, loads[i].queued_tokens);
    };
    if (chosen.has_value()) {
      ASSERT_LT(*chosen, loads.size());
      ASSERT_TRUE(eligible(*chosen)) << "round " << round;
    }
    for (size_t i = 0; i < loads.size(); ++i) {
      if (!eligible(i)) continue;
      ASSERT_TRUE(chosen.has_value()) << "round " << round;
      ASSERT_LE(rank(*chosen), rank(i)) << "round " << round;
    }
  }
}

TEST(ChooseReplicaTest, EqualReplicasTakeTurns) {
  const std::vector<ReplicaLoad> loads(3, Load(true, 5));
  std::vector<int> counts(3);
  for (size_t rotation = 0; rotation < 30; ++rotation)
    ++counts[*ChooseReplica(loads, kCost, std::nullopt, rotation)];
  EXPECT_EQ(counts, (std::vector<int>{10, 10, 10}));
}

TEST(RetryReasonTest, WhatAnotherReplicaMayDoBetter) {
  EXPECT_EQ(RetryReason(absl::UnavailableError("connection refused")), RetryLabel::kUnreachable);
  EXPECT_EQ(RetryReason(absl::UnknownError("Stream removed")), RetryLabel::kReplicaLost);
  EXPECT_EQ(RetryReason(MakeError(ErrorReason::kReplicaLost, "")), RetryLabel::kReplicaLost);
  EXPECT_EQ(RetryReason(MakeError(ErrorReason::kDraining, "")), RetryLabel::kDraining);
  EXPECT_EQ(RetryReason(MakeError(ErrorReason::kQueueFull, "")), RetryLabel::kFull);
  EXPECT_EQ(RetryReason(MakeError(ErrorReason::kTokenBudget, "")), RetryLabel::kFull);
}

TEST(RetryReasonTest, WhatEveryReplicaWouldAnswer) {
  EXPECT_EQ(RetryReason(MakeFieldError(ErrorReason::kFieldOutOfRange, "f", "")), std::nullopt);
  EXPECT_EQ(RetryReason(MakeError(ErrorReason::kDeadlineInQueue, "")), std::nullopt);
  EXPECT_EQ(RetryReason(MakeError(ErrorReason::kNonfiniteLogits, "")), std::nullopt);
  EXPECT_EQ(RetryReason(absl::InternalError("")), std::nullopt);
  EXPECT_EQ(RetryReason(absl::UnimplementedError("")), std::nullopt);
}

TEST(ReplicaErrorForCallerTest, NeverUnknown) {
  const auto reason = [](const absl::Status& status) {
    return GetErrorDetails(ReplicaErrorForCaller(status))->reason;
  };
  EXPECT_EQ(reason(absl::UnavailableError("10.0.0.1 refused")), ErrorReason::kReplicaLost);
  EXPECT_EQ(reason(absl::UnknownError("")), ErrorReason::kReplicaLost);
  EXPECT_EQ(reason(absl::CancelledError("")), ErrorReason::kReplicaLost);
  EXPECT_EQ(reason(absl::InternalError("")), ErrorReason::kInternal);
  EXPECT_EQ(reason(absl::UnimplementedError("")), ErrorReason::kInternal);
  EXPECT_EQ(reason(MakeError(ErrorReason::kQueueFull, "")), ErrorReason::kQueueFull);
  EXPECT_EQ(
      std::string(ReplicaErrorForCaller(absl::UnavailableError("10.0.0.1")).message()).find("10.0"),
      std::string::npos);
}

}  // namespace
}  // namespace phi::service
