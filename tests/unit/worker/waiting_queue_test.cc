#include "service/worker/batching/waiting_queue.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

namespace phi::service {
namespace {

uint64_t Pop(WaitingQueue& queue) {
  const auto id = queue.Front();
  EXPECT_EQ(queue.Front(), id);
  EXPECT_TRUE(id && queue.Remove(*id));
  return id.value_or(0);
}

TEST(WaitingQueue, OneCallerIsFirstInFirstOut) {
  WaitingQueue queue;
  EXPECT_FALSE(queue.Front());
  for (uint64_t id = 1; id <= 5; ++id) queue.Push("a", id, 1 + id * 700 % 3000);
  for (uint64_t id = 1; id <= 5; ++id) EXPECT_EQ(Pop(queue), id);
  EXPECT_TRUE(queue.empty());
  EXPECT_TRUE(queue.by_caller().empty());
}

TEST(WaitingQueue, Row65_CallersShareByCost) {
  WaitingQueue queue;
  for (uint64_t id = 0; id < 300; ++id) queue.Push("small", 1000 + id, 100);
  for (uint64_t id = 0; id < 300; ++id) queue.Push("large", 2000 + id, 1000);
  std::map<uint64_t, uint64_t> cost;
  for (int i = 0; i < 220; ++i) {
    const uint64_t id = Pop(queue);
    cost[id / 1000] += id < 2000 ? 100 : 1000;
  }
  EXPECT_NEAR(static_cast<double>(cost[1]) / static_cast<double>(cost[2]), 1.0, 0.1);
}

TEST(WaitingQueue, LateCallerWaitsForOneTurnOfEachOther) {
  WaitingQueue queue;
  uint64_t id = 0;
  for (int caller = 0; caller < 10; ++caller) {
    for (int i = 0; i < 50; ++i) queue.Push(std::to_string(caller), ++id, 64);
  }
  queue.Push("late", 9999, 64);
  int before = 0;
  while (Pop(queue) != 9999) ++before;
  EXPECT_LE(before, 10 * 256 / 64);
}

TEST(WaitingQueue, FrontStaysWhileOthersComeAndIsNotOwedAfterItsEnd) {
  WaitingQueue queue;
  queue.Push("a", 1, 5000);
  EXPECT_EQ(queue.Front(), 1u);
  queue.Push("b", 2, 1);
  EXPECT_EQ(queue.Front(), 1u);
  EXPECT_TRUE(queue.Remove(1));
  EXPECT_FALSE(queue.Remove(1));
  EXPECT_EQ(queue.Front(), 2u);
  EXPECT_EQ(queue.by_caller().size(), 1u);
}

// Nobody starves: whatever others do, one is served after at most this much of others' cost.
TEST(WaitingQueue, Row65_NobodyStarves) {
  constexpr uint64_t kLargest = 4000;
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    std::mt19937_64 random(seed);
    WaitingQueue queue;
    struct Waiting {
      std::string caller;
      uint64_t cost = 0;
      uint64_t ahead_own = 0;  // cost before it of its own caller, itself included
      std::map<std::string, uint64_t> served_since = {};
    };
    std::map<uint64_t, Waiting> waiting;
    uint64_t last_id = 0;
    for (int i = 0; i < 3000; ++i) {
      if (random() % 2 == 0 && queue.total().requests < 200) {
        Waiting request{.caller = std::to_string(random() % 4), .cost = 1 + random() % kLargest};
        request.ahead_own = request.cost;
        for (const auto& [id, other] : waiting)
          request.ahead_own += other.caller == request.caller ? other.cost : 0;
        queue.Push(request.caller, ++last_id, request.cost);
        waiting.emplace(last_id, request);
      } else if (!waiting.empty() && random() % 10 == 0) {
        const auto victim =
            std::next(waiting.begin(), static_cast<int64_t>(random() % waiting.size()));
        ASSERT_TRUE(queue.Remove(victim->first));
        waiting.erase(victim);
      } else if (!queue.empty()) {
        const uint64_t id = Pop(queue);
        const auto served = waiting.extract(id);
        ASSERT_FALSE(served.empty());
        for (const auto& [other, cost] : served.mapped().served_since) {
          ASSERT_LE(cost, served.mapped().ahead_own + kLargest + 2 * WaitingQueue::kQuantum)
              << "seed " << seed << ": " << other << " had more than its share";
        }
        for (auto& [other_id, request] : waiting) {
          if (request.caller != served.mapped().caller)
            request.served_since[served.mapped().caller] += served.mapped().cost;
        }
      }
      ASSERT_EQ(queue.total().requests, waiting.size());
    }
  }
}

}  // namespace
}  // namespace phi::service
