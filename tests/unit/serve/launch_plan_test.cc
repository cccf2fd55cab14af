#include "service/serve/launch_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace phi::service {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

absl::StatusOr<LaunchPlan> Plan(const std::vector<std::string>& args) {
  int next_port = 7000;
  return MakeLaunchPlan(args, [&] { return next_port++; });
}

TEST(LaunchPlanTest, DefaultsMeetEachOther) {
  const auto plan = Plan({"--model", "m"});
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->listen, "127.0.0.1:50051");
  EXPECT_EQ(plan->router_metrics, "127.0.0.1:9090");
  EXPECT_EQ(plan->worker_metrics, "127.0.0.1:9091");
  EXPECT_THAT(plan->router_args,
              ::testing::UnorderedElementsAre("--model=m",
                                              "--listen=127.0.0.1:50051",
                                              "--replicas=127.0.0.1:7000",
                                              "--metrics_listen=127.0.0.1:9090"));
  EXPECT_THAT(plan->worker_args,
              ::testing::UnorderedElementsAre(
                  "--model=m", "--listen=127.0.0.1:7000", "--metrics_listen=127.0.0.1:9091"));
}

TEST(LaunchPlanTest, EachFlagGoesToTheProgramThatHasIt) {
  const auto plan = Plan({"--model=m",
                          "--tensor_parallel",
                          "2",
                          "--model_name=x",
                          "--log_level=debug",
                          "--reflection"});
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(plan->worker_args, Contains("--tensor_parallel=2"));
  EXPECT_THAT(plan->router_args, Not(Contains("--tensor_parallel=2")));
  EXPECT_THAT(plan->router_args, Contains("--model_name=x"));
  EXPECT_THAT(plan->worker_args, Not(Contains("--model_name=x")));
  EXPECT_THAT(plan->router_args, Contains("--log_level=debug"));
  EXPECT_THAT(plan->worker_args, Contains("--log_level=debug"));
  EXPECT_THAT(plan->router_args, Contains("--reflection=true"));
}

TEST(LaunchPlanTest, PortsOfZeroArePicked) {
  const auto plan = Plan({"--model=m", "--listen=0.0.0.0:0", "--metrics_listen=127.0.0.1:0"});
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->listen, "0.0.0.0:7000");
  EXPECT_EQ(plan->router_metrics, "127.0.0.1:7001");
  EXPECT_EQ(plan->worker_metrics, "127.0.0.1:7002");
  EXPECT_THAT(plan->router_args, Contains("--replicas=127.0.0.1:7003"));
}

TEST(LaunchPlanTest, ErrorsNameTheFlag) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{}, "--model"},
      {{"--model"}, "--model"},
      {{"--model=m", "--no_such=1"}, "--no_such"},
      {{"--model=m", "--replicas=a:1"}, "--replicas"},
      {{"--model=m", "stray"}, "stray"},
      {{"--model=m", "--listen=50051"}, "--listen"},
      {{"--model=m", "--metrics_listen=a:99999"}, "--metrics_listen"},
  };
  for (const auto& [args, wanted] : cases) {
    const auto plan = Plan(args);
    ASSERT_FALSE(plan.ok()) << wanted;
    EXPECT_THAT(std::string(plan.status().message()), HasSubstr(wanted));
  }
}

TEST(LaunchPlanTest, HelpWinsOverErrors) {
  EXPECT_TRUE(Plan({"--help", "--no_such"})->help);
  EXPECT_TRUE(Plan({"--version"})->version);
}

}  // namespace
}  // namespace phi::service
