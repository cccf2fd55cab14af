#include "service/worker/group/blame.h"

#include <gtest/gtest.h>

#include <vector>

namespace phi::service {
namespace {

using Activity = shard::RankProgress::Activity;

constexpr int64_t kSecond = 1'000'000'000;

RankSnapshot In(uint64_t started, uint64_t finished, uint32_t activity, uint32_t collective_index) {
  return {.steps_started = started,
          .steps_finished = finished,
          .activity = activity,
          .collective_index = collective_index};
}

TEST(Blame, RankThatComputesWhileTheOthersWaitForIt) {
  const std::vector<RankSnapshot> ranks = {In(8, 7, Activity::kInCollective, 3),
                                           In(8, 7, Activity::kComputing, 2),
                                           In(8, 7, Activity::kInCollective, 3)};
  EXPECT_EQ(RankToBlame(ranks), 1);
  EXPECT_EQ(WhereItStands(ranks[1], 24), "computing");
}

TEST(Blame, RankThatDidNotTakeThePlan) {
  const std::vector<RankSnapshot> ranks = {
      In(9, 9, Activity::kIdle, 0), In(9, 9, Activity::kIdle, 0), In(5, 5, Activity::kIdle, 0)};
  EXPECT_EQ(RankToBlame(ranks), 2);
  EXPECT_EQ(WhereItStands(ranks[2], 24), "idle");
}

TEST(Blame, LeaderWhereAllAreEqual) {
  const std::vector<RankSnapshot> ranks = {In(9, 9, Activity::kIdle, 0),
                                           In(9, 9, Activity::kIdle, 0)};
  EXPECT_EQ(RankToBlame(ranks), 0);
}

TEST(Blame, StoppedRankWhereProgressDoesNotTell) {
  std::vector<RankSnapshot> ranks = {In(8, 7, Activity::kInCollective, 3),
                                     In(8, 7, Activity::kInCollective, 3)};
  ranks[1].stopped = true;
  EXPECT_EQ(RankToBlame(ranks), 1);
}

TEST(Blame, CollectivesAreNamed) {
  EXPECT_EQ(WhereItStands(In(8, 7, Activity::kInCollective, 1), 2), "in the all-reduce of layer 0");
  EXPECT_EQ(WhereItStands(In(8, 7, Activity::kInCollective, 2), 2), "in the all-reduce of layer 1");
  EXPECT_EQ(WhereItStands(In(8, 7, Activity::kInCollective, 3), 2), "in the gather of the logits");
  EXPECT_EQ(WhereItStands(In(0, 0, Activity::kStarting, 0), 2), "starting");
}

TEST(Blame, StalledAfterTheLimitOfTimeThatTheSupervisorSaw) {
  RankSnapshot rank = In(3, 2, Activity::kComputing, 0);
  rank.last_change_ns = 100 * kSecond;
  EXPECT_FALSE(IsStalled(rank, 110 * kSecond, 0, 10 * kSecond));
  EXPECT_TRUE(IsStalled(rank, 110 * kSecond + 1, 0, 10 * kSecond));
  EXPECT_FALSE(IsStalled(rank, 200 * kSecond, 195 * kSecond, 10 * kSecond))
      << "the supervisor slept as well";
  EXPECT_FALSE(IsStalled(In(0, 0, Activity::kStarting, 0), 999 * kSecond, 0, 10 * kSecond))
      << "it still loads";
}

}  // namespace
}  // namespace phi::service
