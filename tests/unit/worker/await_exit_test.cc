#include "service/worker/group/await_exit.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

namespace phi::service {
namespace {

TEST(AwaitExitTest, GivesUpOnOneThatStaysAndReapsOneThatEnds) {
  const pid_t pid = fork();
  if (pid == 0) {
    for (;;) pause();
  }
  ASSERT_GT(pid, 0);
  EXPECT_EQ(AwaitExit(pid, absl::Milliseconds(20)), std::nullopt);
  kill(pid, SIGKILL);
  const auto wait_status = AwaitExit(pid, absl::Seconds(60));
  ASSERT_TRUE(wait_status.has_value());
  EXPECT_TRUE(WIFSIGNALED(*wait_status));
  EXPECT_EQ(WTERMSIG(*wait_status), SIGKILL);
  EXPECT_EQ(AwaitExit(pid, absl::Seconds(60)), std::nullopt) << "reaped already";
}

}  // namespace
}  // namespace phi::service
