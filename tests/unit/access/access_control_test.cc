#include "service/access/access_control.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "service/api/error.h"

namespace phi::service {
namespace {

// printf %s secret | sha256sum, and of "other".
constexpr char kSecret[] = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
constexpr char kOther[] = "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa";

class AccessControlTest : public ::testing::Test {
 protected:
  AccessControlTest()
      : path_(::testing::TempDir() + "access_control_test." + std::to_string(getpid())) {}
  ~AccessControlTest() override { std::filesystem::remove(path_); }

  void Write(const std::string& text) { std::ofstream(path_) << text; }
  std::unique_ptr<AccessControl> Load(const std::string& text) {
    Write(text);
    auto access = AccessControl::Load(path_);
    EXPECT_TRUE(access.ok()) << access.status();
    return *std::move(access);
  }
  static AccessControl::Metadata Header(const char* value) { return {{"authorization", value}}; }

  const std::string path_;
};

std::optional<ErrorReason> ReasonOf(const absl::Status& status) {
  const auto details = GetErrorDetails(status);
  return details.has_value() ? std::optional(details->reason) : std::nullopt;
}

TEST_F(AccessControlTest, WithoutAFileEverybodyMayCall) {
  auto access = AccessControl::Load("");
  ASSERT_TRUE(access.ok());
  auto grant = (*access)->Admit({});
  ASSERT_TRUE(grant.ok());
  EXPECT_EQ(grant->name(), "");
  EXPECT_TRUE(grant->CheckTokens().ok());
}

TEST_F(AccessControlTest, AsksForOneKnownBearerToken) {
  const auto access = Load(std::string("a:") + kSecret + "\n");
  const auto grant = access->Admit(Header("Bearer secret"));
  ASSERT_TRUE(grant.ok()) << grant.status();
  EXPECT_EQ(grant->name(), "a");
  EXPECT_TRUE(access->Admit(Header("bearer secret")).ok());
  for (const char* wrong : {"",
                            "secret",
                            "Bearer",
                            "Bearer ",
                            "Bearer wrong",
                            "Basic secret",
                            "Bearer secret ",
                            "Bearersecret"}) {
    EXPECT_EQ(ReasonOf(access->Admit(Header(wrong)).status()), ErrorReason::kUnauthenticated)
        << wrong;
  }
  EXPECT_EQ(ReasonOf(access->Admit({}).status()), ErrorReason::kUnauthenticated);
  AccessControl::Metadata two = Header("Bearer secret");
  two.emplace("authorization", "Bearer secret");
  EXPECT_EQ(ReasonOf(access->Admit(two).status()), ErrorReason::kUnauthenticated);
}

TEST_F(AccessControlTest, AKnownCallerMayBeDenied) {
  const auto access = Load(std::string("a:") + kSecret + ":requests=0\n");
  EXPECT_EQ(ReasonOf(access->Admit(Header("Bearer secret")).status()),
            ErrorReason::kPermissionDenied);
}

TEST_F(AccessControlTest, RequestsUnderWayAreGivenBack) {
  const auto access = Load(std::string("a:") + kSecret + ":requests=2\nb:" + kOther + "\n");
  auto first = access->Admit(Header("Bearer secret"));
  ASSERT_TRUE(first.ok());
  {
    const auto second = access->Admit(Header("Bearer secret"));
    ASSERT_TRUE(second.ok());
    const absl::Status third = access->Admit(Header("Bearer secret")).status();
    EXPECT_EQ(ReasonOf(third), ErrorReason::kCallerLimit);
    EXPECT_TRUE(GetErrorDetails(third)->retry_after.has_value());
    EXPECT_TRUE(access->Admit(Header("Bearer other")).ok()) << "another caller's are its own";
  }
  const auto again = access->Admit(Header("Bearer secret"));
  EXPECT_TRUE(again.ok());
  EXPECT_FALSE(access->Admit(Header("Bearer secret")).ok());
  first->End();
  first->End();
  EXPECT_TRUE(access->Admit(Header("Bearer secret")).ok());
}

TEST_F(AccessControlTest, TokensPerMinuteAreSpentByTheCaller) {
  const auto access = Load(std::string("a:") + kSecret + ":tokens_per_minute=100\n");
  const auto grant = access->Admit(Header("Bearer secret"));
  ASSERT_TRUE(grant.ok());
  EXPECT_TRUE(grant->CheckTokens().ok());
  grant->Charge(100'000);
  const absl::Status spent = access->Admit(Header("Bearer secret"))->CheckTokens();
  EXPECT_EQ(ReasonOf(spent), ErrorReason::kCallerLimit);
  EXPECT_GT(*GetErrorDetails(spent)->retry_after, absl::Minutes(900));
}

TEST_F(AccessControlTest, FollowsTheFileAndKeepsWhatIsUnderWay) {
  const auto access = Load(std::string("a:") + kSecret + ":requests=1\n");
  const auto grant = access->Admit(Header("Bearer secret"));
  ASSERT_TRUE(grant.ok());
  Write(std::string("a:") + kSecret + ":requests=2\nb:" + kOther + "\n");
  EXPECT_FALSE(access->Admit(Header("Bearer other")).ok()) << "not looked at yet";
  access->Reload();
  EXPECT_TRUE(access->Admit(Header("Bearer other")).ok());
  const auto second = access->Admit(Header("Bearer secret"));
  EXPECT_TRUE(second.ok());
  EXPECT_FALSE(access->Admit(Header("Bearer secret")).ok()) << "the one before the change counts";
  Write(std::string("b:") + kOther + "\n");
  access->Reload();
  EXPECT_FALSE(access->Admit(Header("Bearer secret")).ok()) << "withdrawn";
}

TEST_F(AccessControlTest, ABrokenFileChangesNothing) {
  const auto access = Load(std::string("a:") + kSecret + "\n");
  for (const char* broken : {"", "nonsense\n", "a:00\n"}) {
    Write(broken);
    access->Reload();
    EXPECT_TRUE(access->Admit(Header("Bearer secret")).ok()) << broken;
  }
  std::filesystem::remove(path_);
  access->Reload();
  EXPECT_TRUE(access->Admit(Header("Bearer secret")).ok());
  Write(std::string("b:") + kOther + "\n");
  access->Reload();
  EXPECT_TRUE(access->Admit(Header("Bearer other")).ok());
  EXPECT_FALSE(access->Admit(Header("Bearer secret")).ok());
}

TEST_F(AccessControlTest, AFileThatCannotBeUsedAtStartIsNamed) {
  EXPECT_THAT(std::string(AccessControl::Load("/nowhere/tokens").status().message()),
              ::testing::HasSubstr("--token_file: /nowhere/tokens: No such file"));
  Write("nonsense\n");
  EXPECT_THAT(std::string(AccessControl::Load(path_).status().message()),
              ::testing::AllOf(::testing::HasSubstr(path_), ::testing::HasSubstr("line 1")));
}

}  // namespace
}  // namespace phi::service
