#include "kernels/base/failpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>

namespace phi {
namespace {

TEST(Failpoint, DoesNothingUnlessSet) {
  ASSERT_TRUE(SetFailpoints("").ok());
  EXPECT_TRUE(PHI_FAILPOINT("here").ok());
  EXPECT_FALSE(PHI_FAILPOINT_NAN("here"));
}

TEST(Failpoint, ErrorsByNameAndCount) {
  ASSERT_TRUE(SetFailpoints("here=error@2-3;there=error;last=error@2-;once=error@2").ok());
  const auto errors = [](std::string_view name) {
    std::string seen;
    for (int i = 0; i < 4; ++i) seen += PHI_FAILPOINT(name).ok() ? '.' : 'E';
    return seen;
  };
  EXPECT_EQ(errors("here"), ".EE.");
  EXPECT_EQ(errors("there"), "EEEE");
  EXPECT_EQ(errors("last"), ".EEE");
  EXPECT_EQ(errors("once"), ".E..");
  EXPECT_EQ(errors("elsewhere"), "....");
  EXPECT_EQ(PHI_FAILPOINT("there"), absl::InternalError("failpoint there"));
}

TEST(Failpoint, SleepsAndGoesOn) {
  ASSERT_TRUE(SetFailpoints("here=sleep:20").ok());
  const auto start = std::chrono::steady_clock::now();
  EXPECT_TRUE(PHI_FAILPOINT("here").ok());
  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(20));
}

TEST(Failpoint, MakesNan) {
  ASSERT_TRUE(SetFailpoints("here=nan@2").ok());
  EXPECT_FALSE(PHI_FAILPOINT_NAN("here"));
  EXPECT_TRUE(PHI_FAILPOINT_NAN("here"));
  EXPECT_FALSE(PHI_FAILPOINT_NAN("here"));
}

TEST(FailpointDeathTest, Kills) {
  ASSERT_TRUE(SetFailpoints("here=kill").ok());
  EXPECT_EXIT((void)PHI_FAILPOINT("here"), testing::KilledBySignal(SIGKILL), "");
}

TEST(Failpoint, RefusesWhatIsNone) {
  for (const char* list : {"here",
                           "=error",
                           "here=explode",
                           "here=sleep",
                           "here=sleep:x",
                           "here=error@0",
                           "here=error@",
                           "here=error@x",
                           "here=error@2-x",
                           "here=error:5"}) {
    EXPECT_EQ(SetFailpoints(list).code(), absl::StatusCode::kInvalidArgument) << list;
  }
}

}  // namespace
}  // namespace phi
