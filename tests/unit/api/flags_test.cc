#include "service/api/flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace phi::service {
namespace {

// Every flag of the router into a text, but for the ones under test.
struct RouterFlags {
  std::string model, replicas, log_format;
  int max_inflight_requests = -1;
  bool reflection = false;
  absl::Duration max_time_limit;
  std::vector<std::string> others = std::vector<std::string>(64);

  std::optional<ExitCode> Parse(std::vector<const char*> args) {
    FlagParser flags(Program::kRouter, "phi-router", "A test.");
    size_t next = 0;
    for (const FlagRow& row : FlagTable()) {
      if ((row.programs & static_cast<uint8_t>(Program::kRouter)) == 0) continue;
      if (row.name == "model")
        flags.Bind(row.name, &model);
      else if (row.name == "replicas")
        flags.Bind(row.name, &replicas);
      else if (row.name == "log_format")
        flags.Bind(row.name, &log_format, {"text", "json"});
      else if (row.name == "max_inflight_requests")
        flags.Bind(row.name, &max_inflight_requests);
      else if (row.name == "reflection")
        flags.Bind(row.name, &reflection);
      else if (row.name == "max_time_limit")
        flags.Bind(row.name, &max_time_limit);
      else
        flags.Bind(row.name, &others[next++]);
    }
    args.insert(args.begin(), "phi-router");
    return flags.Parse(static_cast<int>(args.size()), args.data());
  }
};

TEST(FlagsTest, DefaultsComeFromTheTable) {
  RouterFlags flags;
  EXPECT_EQ(flags.Parse({"--model", "m", "--replicas=a:1"}), std::nullopt);
  EXPECT_EQ(flags.model, "m");
  EXPECT_EQ(flags.replicas, "a:1");
  EXPECT_EQ(flags.max_inflight_requests, 512);
  EXPECT_TRUE(flags.reflection);
  EXPECT_EQ(flags.max_time_limit, absl::Minutes(10));
  EXPECT_EQ(flags.log_format, "text");
}

TEST(FlagsTest, ValuesOverrideDefaults) {
  RouterFlags flags;
  EXPECT_EQ(flags.Parse({"--model=m",
                         "--replicas=a:1",
                         "--reflection=false",
                         "--max_time_limit=1m30s",
                         "--max_inflight_requests=7",
                         "--log_format=json"}),
            std::nullopt);
  EXPECT_FALSE(flags.reflection);
  EXPECT_EQ(flags.max_time_limit, absl::Seconds(90));
  EXPECT_EQ(flags.max_inflight_requests, 7);
  EXPECT_EQ(flags.log_format, "json");
}

TEST(FlagsTest, HelpAndVersionEndWell) {
  ::testing::internal::CaptureStdout();
  EXPECT_EQ(RouterFlags().Parse({"--help"}), ExitCode::kOk);
  const std::string help = ::testing::internal::GetCapturedStdout();
  for (const FlagRow& row : FlagTable()) {
    if ((row.programs & static_cast<uint8_t>(Program::kRouter)) == 0) continue;
    EXPECT_THAT(help, ::testing::HasSubstr("--" + std::string(row.name)));
  }
  ::testing::internal::CaptureStdout();
  EXPECT_EQ(RouterFlags().Parse({"--version"}), ExitCode::kOk);
  EXPECT_EQ(::testing::internal::GetCapturedStdout(), "phi-router " PHI_VERSION "\n");
}

TEST(FlagsTest, EachErrorIsOneLineThatNamesTheFlag) {
  const std::vector<std::pair<std::vector<const char*>, std::string>> cases = {
      {{"--model=m", "--replicas=a:1", "--max_inflight_requests=many"}, "--max_inflight_requests"},
      {{"--model=m", "--replicas=a:1", "--max_time_limit=10"}, "--max_time_limit"},
      {{"--model=m", "--replicas=a:1", "--max_time_limit=-1s"}, "--max_time_limit"},
      {{"--model=m", "--replicas=a:1", "--reflection=perhaps"}, "--reflection"},
      {{"--model=m", "--replicas=a:1", "--log_format=xml"}, "text|json"},
      {{"--model=m", "--replicas=a:1", "--no_such_flag=1"}, "--no_such_flag"},
      {{"--model=m", "--replicas=a:1", "--listen=50051"}, "--listen"},
      {{"--model=m", "--replicas=a:1", "--listen=a:65536"}, "--listen"},
      {{"--model=m", "--replicas=a:1", "stray"}, "stray"},
      {{"--model=m", "--replicas=a:1", "--model_name=", "--listen=a:1"}, "--model_name="},
      {{"--replicas=a:1"}, "--model"},
  };
  for (const auto& [args, wanted] : cases) {
    ::testing::internal::CaptureStderr();
    EXPECT_EQ(RouterFlags().Parse(args), ExitCode::kUsage);
    const std::string message = ::testing::internal::GetCapturedStderr();
    EXPECT_THAT(message, ::testing::HasSubstr(wanted));
    EXPECT_EQ(std::count(message.begin(), message.end(), '\n'), 1) << message;
  }
}

TEST(FlagsTest, ByteCounts) {
  const auto parse = [](const char* text) -> std::optional<uint64_t> {
    FlagParser flags(Program::kWorker, "phi-worker", "A test.");
    uint64_t bytes = 0;
    std::vector<std::string> others(64);
    size_t next = 0;
    for (const FlagRow& row : FlagTable()) {
      if ((row.programs & static_cast<uint8_t>(Program::kWorker)) == 0) continue;
      if (row.name == "kv_cache_bytes")
        flags.Bind(row.name, &bytes);
      else
        flags.Bind(row.name, &others[next++]);
    }
    const std::vector<const char*> args = {"phi-worker", "--model=m", "--kv_cache_bytes", text};
    if (flags.Parse(static_cast<int>(args.size()), args.data()).has_value()) return std::nullopt;
    return bytes;
  };
  EXPECT_EQ(parse("0"), 0U);
  EXPECT_EQ(parse("4096"), 4096U);
  EXPECT_EQ(parse("512MiB"), uint64_t{512} << 20);
  EXPECT_EQ(parse("16777215TiB"), uint64_t{16777215} << 40);
  EXPECT_EQ(parse("16777216TiB"), std::nullopt);  // beyond 64 bits
  EXPECT_EQ(parse("1MB"), std::nullopt);
  EXPECT_EQ(parse("-1"), std::nullopt);
}

TEST(FlagsTest, NamesAreUniqueInEachProgram) {
  for (const Program program : {Program::kRouter, Program::kWorker}) {
    std::set<std::string_view> names;
    for (const FlagRow& row : FlagTable()) {
      if ((row.programs & static_cast<uint8_t>(program)) != 0) {
        EXPECT_TRUE(names.insert(row.name).second) << row.name;
      }
    }
  }
}

}  // namespace
}  // namespace phi::service
