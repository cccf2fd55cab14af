#include "service/router/admission.h"

#include <gtest/gtest.h>

#include <vector>

#include "service/api/error.h"

namespace phi::service {
namespace {

constexpr RouterLoad kIdle{.max_inflight_requests = 4};
constexpr ReplicaLoad kReady{.ready = true,
                             .outstanding_tokens = 0,
                             .queued_requests = 0,
                             .max_queued_requests = 8,
                             .queued_tokens = 0,
                             .max_queued_tokens = 1000,
                             .kv_tokens = 500,
                             .outstanding_requests = 0,
                             .max_requests = 10};

std::string ReasonOf(const absl::Status& status) {
  if (status.ok()) return "";
  const auto details = GetErrorDetails(status);
  return details.has_value() ? std::string(ErrorReasonInfo(details->reason).name) : "no details";
}

ReplicaLoad With(ReplicaLoad load, void (*change)(ReplicaLoad&)) {
  change(load);
  return load;
}

TEST(AdmitCallTest, CapIsExact) {
  RouterLoad router = kIdle;
  router.inflight_requests = 3;
  EXPECT_EQ(ReasonOf(AdmitCall(router, std::vector{kReady})), "");
  router.inflight_requests = 4;
  const absl::Status full = AdmitCall(router, std::vector{kReady});
  EXPECT_EQ(ReasonOf(full), "QUEUE_FULL");
  EXPECT_TRUE(GetErrorDetails(full)->retry_after.has_value());
}

TEST(AdmitCallTest, DrainingComesFirst) {
  RouterLoad router = kIdle;
  router.draining = true;
  router.inflight_requests = 4;
  EXPECT_EQ(ReasonOf(AdmitCall(router, std::vector{kReady})), "DRAINING");
}

TEST(AdmitCallTest, NeedsAReadyReplicaWithRoom) {
  const ReplicaLoad not_ready = With(kReady, [](ReplicaLoad& load) { load.ready = false; });
  const ReplicaLoad full = With(kReady, [](ReplicaLoad& load) { load.queued_requests = 8; });
  EXPECT_EQ(ReasonOf(AdmitCall(kIdle, {})), "NO_READY_REPLICA");
  EXPECT_EQ(ReasonOf(AdmitCall(kIdle, std::vector{not_ready})), "NO_READY_REPLICA");
  EXPECT_EQ(ReasonOf(AdmitCall(kIdle, std::vector{full, not_ready})), "QUEUE_FULL");
  EXPECT_EQ(ReasonOf(AdmitCall(kIdle, std::vector{full, not_ready, kReady})), "");
}

TEST(AdmitCallTest, CountsItsOwnCallsWhereTheReplicasNewsIsOld) {
  ReplicaLoad load = kReady;
  load.outstanding_requests = 9;
  EXPECT_EQ(ReasonOf(AdmitCall(kIdle, std::vector{load})), "");
  load.outstanding_requests = 10;
  EXPECT_EQ(ReasonOf(AdmitCall(kIdle, std::vector{load})), "QUEUE_FULL");
  EXPECT_EQ(ReasonOf(AdmitCall(kIdle, std::vector{load, kReady})), "");
}

TEST(AdmitCallTest, Row65_WhoFloodsLeavesPlacesToOthers) {
  // Of router and replicas, whichever take less.
  for (const uint32_t max_inflight : {20, 30}) {
    const RouterLoad flooded{
        .inflight_requests = 18, .inflight_of_caller = 18, .max_inflight_requests = max_inflight};
    const std::vector two(2, kReady);
    EXPECT_EQ(ReasonOf(AdmitCall(flooded, two)), "QUEUE_FULL");
    RouterLoad another = flooded;
    another.inflight_of_caller = 0;
    EXPECT_EQ(ReasonOf(AdmitCall(another, two)), "");
    RouterLoad less = flooded;
    less.inflight_requests = less.inflight_of_caller = 15;
    EXPECT_EQ(ReasonOf(AdmitCall(less, two)), "");
  }
}

TEST(AdmitCostTest, KvCacheMustHoldTheRequest) {
  // The last token is never an input.
  EXPECT_EQ(ReasonOf(AdmitCost({.prompt_tokens = 400, .max_new_tokens = 101}, std::vector{kReady})),
            "");
  EXPECT_EQ(ReasonOf(AdmitCost({.prompt_tokens = 400, .max_new_tokens = 102}, std::vector{kReady})),
            "KV_CAPACITY");
  const ReplicaLoad bigger = With(kReady, [](ReplicaLoad& load) { load.kv_tokens = 501; });
  EXPECT_EQ(ReasonOf(AdmitCost({.prompt_tokens = 400, .max_new_tokens = 102},
                               std::vector{kReady, bigger})),
            "");
}

TEST(AdmitCostTest, SamplesThatDoNotFitSideBySideTakeTurns) {
  EXPECT_EQ(ReasonOf(AdmitCost({.prompt_tokens = 400, .max_new_tokens = 101, .num_samples = 16},
                               std::vector{kReady})),
            "");
}

TEST(AdmitCostTest, TokenBudget) {
  const ReplicaLoad busy = With(kReady, [](ReplicaLoad& load) { load.queued_tokens = 900; });
  EXPECT_EQ(ReasonOf(AdmitCost({.prompt_tokens = 100, .max_new_tokens = 1}, std::vector{busy})),
            "");
  EXPECT_EQ(ReasonOf(AdmitCost({.prompt_tokens = 101, .max_new_tokens = 1}, std::vector{busy})),
            "TOKEN_BUDGET");
  EXPECT_EQ(
      ReasonOf(AdmitCost({.prompt_tokens = 101, .max_new_tokens = 1}, std::vector{busy, kReady})),
      "");
}

TEST(AdmitCostTest, ReplicaThatFitsAndReplicaWithRoomMustBeTheSame) {
  const ReplicaLoad busy = With(kReady, [](ReplicaLoad& load) { load.queued_tokens = 1000; });
  const ReplicaLoad small = With(kReady, [](ReplicaLoad& load) { load.kv_tokens = 10; });
  EXPECT_EQ(
      ReasonOf(AdmitCost({.prompt_tokens = 100, .max_new_tokens = 1}, std::vector{busy, small})),
      "TOKEN_BUDGET");
}

TEST(AdmitCostTest, LongPromptOnIdleReplicaIsServed) {
  const ReplicaLoad tight = With(kReady, [](ReplicaLoad& load) { load.max_queued_tokens = 10; });
  EXPECT_EQ(ReasonOf(AdmitCost({.prompt_tokens = 100, .max_new_tokens = 1}, std::vector{tight})),
            "");
}

}  // namespace
}  // namespace phi::service
