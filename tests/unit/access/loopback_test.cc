#include "service/access/loopback.h"

#include <gtest/gtest.h>

namespace phi::service {
namespace {

TEST(IsLoopbackTest, OnlyAddressesOfThisMachineAre) {
  for (const char* listen : {"127.0.0.1:1", "127.255.0.9:50051", "localhost:1", "[::1]:1"}) {
    EXPECT_TRUE(IsLoopback(std::string_view(listen))) << listen;
  }
  for (const char* listen : {"0.0.0.0:1",
                             "[::]:1",
                             "10.0.0.1:1",
                             "127.evil.example:1",
                             "localhost.example:1",
                             "::1:1",
                             "[127.0.0.1]:1",
                             ":1",
                             ""}) {
    EXPECT_FALSE(IsLoopback(std::string_view(listen))) << listen;
  }
}

}  // namespace
}  // namespace phi::service
