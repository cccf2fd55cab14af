#include "service/router/replicas/replica_list.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace phi::service {
namespace {

TEST(ReplicaListTest, AddressesAndNames) {
  const auto list = ParseReplicaList("a:1,[::1]:50052,dns:///workers.default.svc:50052,10.0.0.1:2");
  ASSERT_TRUE(list.ok()) << list.status();
  EXPECT_THAT(list->addresses, ::testing::ElementsAre("a:1", "[::1]:50052", "10.0.0.1:2"));
  ASSERT_EQ(list->names.size(), 1U);
  EXPECT_EQ(list->names[0].host, "workers.default.svc");
  EXPECT_EQ(list->names[0].port, "50052");
}

TEST(ReplicaListTest, WhatIsNoAddressIsNamed) {
  for (const char* bad : {"",
                          "a",
                          "a:",
                          ":1",
                          "a:0",
                          "a:65536",
                          "a:x",
                          "a:1,",
                          ",a:1",
                          "http://a:1",
                          "dns:///a",
                          "dns://8.8.8.8/a:1",
                          "a:1 "}) {
    const auto list = ParseReplicaList(bad);
    EXPECT_EQ(list.status().code(), absl::StatusCode::kInvalidArgument) << bad;
    EXPECT_THAT(std::string(list.status().message()), ::testing::HasSubstr("--replicas"));
  }
}

TEST(ReplicaListTest, LooksUpNames) {
  const auto addresses = LookUp({.host = "localhost", .port = "50052"});
  ASSERT_TRUE(addresses.ok()) << addresses.status();
  EXPECT_THAT(*addresses, ::testing::Contains(::testing::AnyOf("127.0.0.1:50052", "[::1]:50052")));
  EXPECT_EQ(LookUp({.host = "no-such-host.invalid", .port = "1"}).status().code(),
            absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace phi::service
