#include "service/access/token_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace phi::service {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// printf %s secret | sha256sum, and of "other".
constexpr char kSecret[] = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
constexpr char kOther[] = "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa";

std::string Line(const std::string& name, const std::string& hash, const std::string& rest = "") {
  return name + ":" + hash + rest + "\n";
}

std::string ErrorOf(const std::string& text) {
  return std::string(ParseTokenFile(text).status().message());
}

TEST(TokenFileTest, LinesAndLimits) {
  const auto entries = ParseTokenFile(
      "# who may call\r\n\n" + Line("team-a", kSecret, ":requests=8,tokens_per_minute=60000") +
      Line("b.1_x", kOther) + "team-a:" + std::string(64, 'F') +
      ":requests=8,tokens_per_minute=60000");
  ASSERT_TRUE(entries.ok()) << entries.status();
  ASSERT_EQ(entries->size(), 3u);
  EXPECT_EQ((*entries)[0].name, "team-a");
  EXPECT_EQ((*entries)[0].limits, (CallerLimits{.requests = 8, .tokens_per_minute = 60000}));
  EXPECT_EQ((*entries)[1].limits, CallerLimits());
  EXPECT_EQ((*entries)[2].sha256[31], 0xff);
}

TEST(TokenFileTest, FindsATokenByItsHash) {
  const auto entries = ParseTokenFile(Line("a", kSecret) + Line("b", kOther));
  ASSERT_TRUE(entries.ok()) << entries.status();
  ASSERT_NE(FindToken(*entries, "secret"), nullptr);
  EXPECT_EQ(FindToken(*entries, "secret")->name, "a");
  EXPECT_EQ(FindToken(*entries, "other")->name, "b");
  EXPECT_EQ(FindToken(*entries, "secret "), nullptr);
  EXPECT_EQ(FindToken(*entries, ""), nullptr);
  EXPECT_EQ(FindToken(*entries, kSecret), nullptr) << "the hash itself is no token";
}

TEST(TokenFileTest, ErrorsNameTheLineAndNeverItsText) {
  const std::string good = Line("a", kSecret);
  EXPECT_THAT(ErrorOf(""), HasSubstr("no token"));
  EXPECT_THAT(ErrorOf("# only this\n"), HasSubstr("no token"));
  EXPECT_THAT(ErrorOf(good + Line("a b", kOther)), HasSubstr("line 2: the name"));
  EXPECT_THAT(ErrorOf(good + Line(std::string(65, 'n'), kOther)), HasSubstr("line 2: the name"));
  EXPECT_THAT(ErrorOf("hunter2\n"), HasSubstr("line 1: the hash"));
  EXPECT_THAT(ErrorOf("hunter2\n"), Not(HasSubstr("hunter2")));
  EXPECT_THAT(ErrorOf(Line("a", std::string(kSecret).substr(1))), HasSubstr("the hash"));
  EXPECT_THAT(ErrorOf(Line("a", std::string(63, '0') + "g")), HasSubstr("the hash"));
  for (const char* limits : {":requests",
                             ":requests=",
                             ":requests=-1",
                             ":requests=1,requests=2",
                             ":requests=4294967296",
                             ":tokens_per_minute=0",
                             ":size=1",
                             ":,"}) {
    EXPECT_THAT(ErrorOf(Line("a", kSecret, limits)), HasSubstr("the limits")) << limits;
  }
  EXPECT_THAT(ErrorOf(good + Line("b", kSecret)), HasSubstr("line 2: the hash of a line above"));
  EXPECT_THAT(ErrorOf(good + Line("a", kOther, ":requests=1")), HasSubstr("other limits"));
}

}  // namespace
}  // namespace phi::service
