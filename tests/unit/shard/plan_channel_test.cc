#include "shard/plan_channel.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <thread>

#include "absl/time/clock.h"

namespace phi::shard {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(20);
constexpr absl::Duration kImpatience = absl::Milliseconds(30);

struct Ends {
  int leader;
  int follower;
};

Ends MakeEnds() {
  std::array<int, 2> sockets{};
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets.data()), 0);
  return {sockets[0], sockets[1]};
}

StepPlan MakePlan(uint64_t step, size_t num_tokens) {
  StepPlan plan{.epoch = 1, .step = step};
  plan.token_ids.assign(num_tokens, 17);
  plan.sequences.push_back(
      {.num_tokens = static_cast<uint32_t>(num_tokens), .block_ids = {1, 2, 3}});
  return plan;
}

// The bytes that a sender puts on the wire for `plan`.
std::vector<std::byte> Message(const StepPlan& plan) {
  const std::vector<std::byte> encoded = EncodeStepPlan(plan);
  std::vector<std::byte> message(sizeof(uint32_t) + encoded.size());
  const auto length = static_cast<uint32_t>(encoded.size());
  std::memcpy(message.data(), &length, sizeof(length));
  std::memcpy(message.data() + sizeof(length), encoded.data(), encoded.size());
  return message;
}

TEST(PlanChannel, PlansArriveInOrderAtEveryFollower) {
  const Ends first = MakeEnds();
  const Ends second = MakeEnds();
  PlanSender sender({first.leader, second.leader});
  PlanReceiver receiver1(first.follower);
  PlanReceiver receiver2(second.follower);
  for (uint64_t step = 0; step < 5; ++step)
    ASSERT_TRUE(sender.Send(MakePlan(step, 100), kPatience).ok());
  for (uint64_t step = 0; step < 5; ++step) {
    EXPECT_EQ(*receiver1.Receive(kPatience), MakePlan(step, 100));
    EXPECT_EQ(*receiver2.Receive(kPatience), MakePlan(step, 100));
  }
}

TEST(PlanChannel, BytesGoBeforeThePlans) {
  const Ends ends = MakeEnds();
  PlanSender sender({ends.leader});
  PlanReceiver receiver(ends.follower);
  std::vector<std::byte> id(128);
  for (size_t i = 0; i < id.size(); ++i) id[i] = static_cast<std::byte>(i);
  EXPECT_EQ(receiver.ReceiveBytes(kImpatience).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  ASSERT_TRUE(sender.SendBytes(id, kPatience).ok());
  ASSERT_TRUE(sender.Send(MakePlan(0, 3), kPatience).ok());
  EXPECT_EQ(*receiver.ReceiveBytes(kPatience), id);
  EXPECT_EQ(*receiver.Receive(kPatience), MakePlan(0, 3));
  // A receiver that expects a plan takes no other bytes for one.
  ASSERT_TRUE(sender.SendBytes(id, kPatience).ok());
  EXPECT_EQ(receiver.Receive(kPatience).status().code(), absl::StatusCode::kInvalidArgument);
}

// Larger than any socket buffer, so that both sides see partial writes and reads.
TEST(PlanChannel, ALargePlanGoesInPieces) {
  const Ends ends = MakeEnds();
  PlanSender sender({ends.leader});
  PlanReceiver receiver(ends.follower);
  const StepPlan plan = MakePlan(0, 2'000'000);
  absl::Status sent;
  std::thread leader([&] { sent = sender.Send(plan, kPatience); });
  absl::StatusOr<StepPlan> got = receiver.Receive(kPatience);
  leader.join();
  ASSERT_TRUE(sent.ok()) << sent;
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_TRUE(*got == plan);
}

TEST(PlanChannel, ReceiveGoesOnAfterADeadline) {
  const Ends ends = MakeEnds();
  PlanReceiver receiver(ends.follower);
  EXPECT_EQ(receiver.Receive(kImpatience).status().code(), absl::StatusCode::kDeadlineExceeded);
  const std::vector<std::byte> message = Message(MakePlan(3, 10));
  for (const std::byte byte : message) {
    EXPECT_EQ(receiver.Receive(absl::ZeroDuration()).status().code(),
              absl::StatusCode::kDeadlineExceeded);
    ASSERT_EQ(write(ends.leader, &byte, 1), 1);
  }
  EXPECT_EQ(*receiver.Receive(kPatience), MakePlan(3, 10));
  close(ends.leader);
}

TEST(PlanChannel, AClosedLeaderIsAnOrderlyEnd) {
  const Ends ends = MakeEnds();
  PlanReceiver receiver(ends.follower);
  {
    PlanSender sender({ends.leader});
    ASSERT_TRUE(sender.Send(MakePlan(0, 1), kPatience).ok());
  }
  EXPECT_TRUE(receiver.Receive(kPatience).ok());
  EXPECT_EQ(receiver.Receive(kPatience).status().code(), absl::StatusCode::kCancelled);
}

TEST(PlanChannel, ALeaderThatGoesWithinAPlanIsUnavailable) {
  const Ends ends = MakeEnds();
  PlanReceiver receiver(ends.follower);
  const std::vector<std::byte> message = Message(MakePlan(0, 10));
  ASSERT_EQ(write(ends.leader, message.data(), 20), 20);
  close(ends.leader);
  EXPECT_EQ(receiver.Receive(kPatience).status().code(), absl::StatusCode::kUnavailable);
}

TEST(PlanChannel, AClosedFollowerIsUnavailableAndNoSignal) {
  const Ends ends = MakeEnds();
  PlanSender sender({ends.leader});
  close(ends.follower);
  EXPECT_EQ(sender.Send(MakePlan(0, 1), kPatience).code(), absl::StatusCode::kUnavailable);
}

TEST(PlanChannel, AFollowerThatDoesNotReadIsTooLate) {
  const Ends ends = MakeEnds();
  PlanSender sender({ends.leader});
  const absl::Time start = absl::Now();
  EXPECT_EQ(sender.Send(MakePlan(0, 2'000'000), kImpatience).code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_LT(absl::Now() - start, absl::Seconds(10));
  close(ends.follower);
}

TEST(PlanChannel, AGarbageLengthIsRefusedBeforeAnythingIsAllocated) {
  for (const uint32_t length : {0xffffffffU, static_cast<uint32_t>(kMaxPlanBytes + 1), 0U, 3U}) {
    const Ends ends = MakeEnds();
    PlanReceiver receiver(ends.follower);
    std::array<std::byte, 16> bytes{};
    std::memcpy(bytes.data(), &length, sizeof(length));
    ASSERT_EQ(write(ends.leader, bytes.data(), bytes.size()), 16);
    EXPECT_EQ(receiver.Receive(kPatience).status().code(), absl::StatusCode::kInvalidArgument)
        << length;
    close(ends.leader);
  }
}

TEST(PlanChannel, APlanAboveTheLimitIsNotSent) {
  const Ends ends = MakeEnds();
  PlanSender sender({ends.leader});
  EXPECT_EQ(sender.Send(MakePlan(0, kMaxPlanBytes / 4), kImpatience).code(),
            absl::StatusCode::kInvalidArgument);
  close(ends.follower);
}

}  // namespace
}  // namespace phi::shard
