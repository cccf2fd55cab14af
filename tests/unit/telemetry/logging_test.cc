#include "service/telemetry/logging.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>
#include <vector>

namespace phi::service {
namespace {

using ::testing::ContainsRegex;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::SizeIs;

class LoggingTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(::pipe(pipe_.data()), 0); }
  void TearDown() override {
    ASSERT_TRUE(StartLogging({.program = "test", .dropped = {}}).ok());  // off the pipe
    ::close(pipe_[0]);
    ::close(pipe_[1]);
  }

  void Start(const std::string& format, const std::string& level = "info") {
    page_ = *MetricPage::Create(1);
    ASSERT_TRUE(StartLogging({.program = "phi-test",
                              .format = format,
                              .level = level,
                              .dropped = page_->Get(MetricId::kLogDroppedTotal),
                              .fd = pipe_[1]})
                    .ok());
  }
  // What lies in the pipe, as lines.
  std::vector<std::string> Lines() const {
    ::fcntl(pipe_[0], F_SETFL, O_NONBLOCK);
    std::string text;
    std::array<char, 65536> buffer{};
    for (ssize_t n = 0; (n = ::read(pipe_[0], buffer.data(), buffer.size())) > 0;) {
      text.append(buffer.data(), static_cast<size_t>(n));
    }
    std::vector<std::string> lines;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);) lines.push_back(line);
    return lines;
  }
  double Dropped() const { return page_->Get(MetricId::kLogDroppedTotal).Value(); }

  std::array<int, 2> pipe_{};
  std::unique_ptr<MetricPage> page_;
};

TEST_F(LoggingTest, TextIsOneLineWithFields) {
  Start("text");
  LogInfo("group\nready", {{"rank", 1}, {"seconds", 0.5}, {"isa", "avx2"}, {"why", "a \"b\""}});
  const auto lines = Lines();
  ASSERT_THAT(lines, SizeIs(1));
  EXPECT_THAT(lines[0], ContainsRegex("^20[0-9-]+T[0-9:.]+Z info phi-test.[0-9]+. "));
  EXPECT_THAT(lines[0], EndsWith(" group ready rank=1 seconds=0.5 isa=avx2 why=\"a \\\"b\\\"\""));
}

TEST_F(LoggingTest, JsonParsesWhateverTheTextHolds) {
  Start("json");
  LogWarning("line\nbreak \"quote\" \\ \x01 \xff",
             {{"ok", true}, {"id", std::string("x\ty")}, {"n", 3U}});
  const auto lines = Lines();
  ASSERT_THAT(lines, SizeIs(1));
  const auto json = nlohmann::json::parse(lines[0]);
  EXPECT_EQ(json["message"], "line\nbreak \"quote\" \\ \x01 \xEF\xBF\xBD");
  EXPECT_EQ(json["level"], "warning");
  EXPECT_EQ(json["program"], "phi-test");
  EXPECT_EQ(json["process_id"], ::getpid());
  EXPECT_EQ(json["ok"], true);
  EXPECT_EQ(json["id"], "x\ty");
  EXPECT_EQ(json["n"], 3);
}

TEST_F(LoggingTest, LowerLevelsAreLeftOut) {
  Start("text", "warning");
  LogDebug("no");
  LogInfo("no");
  LogWarning("yes");
  LogError("yes");
  EXPECT_THAT(Lines(), SizeIs(2));
  EXPECT_EQ(Dropped(), 0);
}

TEST_F(LoggingTest, LongLinesStayWithinAPipesAtom) {
  for (const char* format : {"text", "json"}) {
    Start(format);
    LogInfo(std::string(100000, 'm'), {{"big", std::string(100000, 'v')}, {"last", 1}});
    const auto lines = Lines();
    ASSERT_THAT(lines, SizeIs(1)) << format;
    EXPECT_LE(lines[0].size(), 4095U);
    EXPECT_THAT(lines[0], HasSubstr("last"));
  }
}

TEST_F(LoggingTest, AFullPipeDropsAndCountsAndNobodyWaits) {
  Start("text");
  constexpr int kLines = 4000;  // some 400 KB into a pipe of 64 KiB
  for (int i = 0; i < kLines; ++i) LogInfo(std::string(100, 'x'));
  const auto lines = Lines();
  EXPECT_GT(Dropped(), 0);
  EXPECT_EQ(Dropped() + static_cast<double>(lines.size()), kLines);
  LogInfo("again");
  EXPECT_THAT(Lines(), SizeIs(1));
}

TEST_F(LoggingTest, LeavesTheSharedDescriptorBlocking) {
  Start("text");
  LogInfo("x");
  EXPECT_EQ(::fcntl(pipe_[1], F_GETFL) & O_NONBLOCK, 0);
}

TEST_F(LoggingTest, AFullSocketDropsToo) {
  std::array<int, 2> sockets{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, sockets.data()), 0);
  page_ = *MetricPage::Create(1);
  ASSERT_TRUE(StartLogging({.program = "phi-test",
                            .dropped = page_->Get(MetricId::kLogDroppedTotal),
                            .fd = sockets[1]})
                  .ok());
  for (int i = 0; i < 20000; ++i) LogInfo(std::string(100, 'x'));
  EXPECT_GT(Dropped(), 0);
  ASSERT_TRUE(StartLogging({.program = "test", .dropped = {}}).ok());
  ::close(sockets[0]);
  ::close(sockets[1]);
}

TEST_F(LoggingTest, LinesOfParallelThreadsStayWhole) {
  Start("json");
  {
    std::vector<std::jthread> writers;
    for (int i = 0; i < 4; ++i) {
      writers.emplace_back([i] {
        for (int n = 0; n < 50; ++n) LogInfo("parallel", {{"thread", i}, {"n", n}});
      });
    }
  }
  const auto lines = Lines();
  EXPECT_THAT(lines, SizeIs(200));
  for (const std::string& line : lines) EXPECT_TRUE(nlohmann::json::accept(line)) << line;
}

TEST_F(LoggingTest, UnknownFormatsAndLevelsAreRefusedByTheirFlag) {
  const auto format = StartLogging({.program = "p", .format = "xml", .dropped = {}});
  EXPECT_EQ(format.message(), "--log_format is \"xml\", not text or json");
  const auto level = StartLogging({.program = "p", .level = "loud", .dropped = {}});
  EXPECT_EQ(level.message(), "--log_level is \"loud\", not debug, info, warning or error");
}

}  // namespace
}  // namespace phi::service
