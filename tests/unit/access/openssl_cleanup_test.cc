#include "service/access/openssl_cleanup.h"

#include <gtest/gtest.h>
#include <openssl/crypto.h>
#include <openssl/err.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <thread>

namespace phi::service {
namespace {

std::atomic<bool> is_exiting = false;

void Exit() {
  // Registered before anything of OpenSSL's, and so called after it.
  std::atexit([] {
    is_exiting = true;
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  });
  SkipOpenSslCleanup();
  std::atomic<int> num_ready = 0;
  for (int i = 0; i < 3; ++i) {
    std::thread([&] {
      ERR_raise(ERR_LIB_USER, 1);
      ++num_ready;
      while (!is_exiting) std::this_thread::yield();
    }).detach();
  }
  while (num_ready < 3) std::this_thread::yield();
  std::exit(0);
}

// What LeakSanitizer says of threads that end behind OpenSSL's clean-up is the child's exit code.
TEST(SkipOpenSslCleanupTest, ThreadsMayEndAfterMain) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(Exit(), ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace phi::service
