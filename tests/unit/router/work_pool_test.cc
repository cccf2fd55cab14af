#include "service/router/work_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <string>

#include "absl/synchronization/notification.h"

namespace phi::service {
namespace {

TEST(WorkPoolTest, RefusesBeyondItsQueue) {
  absl::Notification started;
  absl::Notification go_on;
  std::atomic<int> num_run = 0;
  {
    WorkPool pool(1, 2);
    ASSERT_TRUE(pool.Submit("a", [&] {
      started.Notify();
      go_on.WaitForNotification();
      ++num_run;
    }));
    started.WaitForNotification();
    EXPECT_TRUE(pool.Submit("a", [&] { ++num_run; }));
    EXPECT_TRUE(pool.Submit("b", [&] { ++num_run; }));
    EXPECT_FALSE(pool.Submit("c", [&] { num_run += 100; }));
    go_on.Notify();
  }
  EXPECT_EQ(num_run, 3);  // what was taken is run, also at the end
}

TEST(WorkPoolTest, Row65_CallersTakeTurnsAndNoneTakesAllPlaces) {
  absl::Notification started;
  absl::Notification go_on;
  std::string order;
  {
    WorkPool pool(1, 18);
    ASSERT_TRUE(pool.Submit("a", [&] {
      started.Notify();
      go_on.WaitForNotification();
    }));
    started.WaitForNotification();
    int flood = 0;
    while (pool.Submit("a", [&] { order += 'a'; })) ++flood;
    EXPECT_EQ(flood, 16);
    EXPECT_TRUE(pool.Submit("b", [&] { order += 'b'; }));
    EXPECT_TRUE(pool.Submit("c", [&] { order += 'c'; }));
    go_on.Notify();
  }
  EXPECT_EQ(order, "abc" + std::string(15, 'a'));
}

}  // namespace
}  // namespace phi::service
