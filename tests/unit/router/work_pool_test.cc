#include "service/router/work_pool.h"

#include <gtest/gtest.h>

#include <atomic>

#include "absl/synchronization/notification.h"

namespace phi::service {
namespace {

TEST(WorkPoolTest, RefusesBeyondItsQueue) {
  absl::Notification started;
  absl::Notification go_on;
  std::atomic<int> num_run = 0;
  {
    WorkPool pool(1, 2);
    ASSERT_TRUE(pool.Submit([&] {
      started.Notify();
      go_on.WaitForNotification();
      ++num_run;
    }));
    started.WaitForNotification();
    EXPECT_TRUE(pool.Submit([&] { ++num_run; }));
    EXPECT_TRUE(pool.Submit([&] { ++num_run; }));
    EXPECT_FALSE(pool.Submit([&] { num_run += 100; }));
    go_on.Notify();
  }
  EXPECT_EQ(num_run, 3);  // what was taken is run, also at the end
}

}  // namespace
}  // namespace phi::service
