#include "service/worker/worker_flags.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace phi::service {
namespace {

struct Parsed {
  std::optional<ExitCode> exit_code;
  WorkerOptions options;
  std::string said;
};

Parsed Parse(std::vector<const char*> flags) {
  flags.insert(flags.begin(), "phi-worker");
  Parsed parsed;
  testing::internal::CaptureStderr();
  parsed.exit_code =
      ParseWorkerFlags(static_cast<int>(flags.size()), flags.data(), &parsed.options);
  parsed.said = testing::internal::GetCapturedStderr();
  return parsed;
}

TEST(WorkerFlags, DefaultsServeAModel) {
  const Parsed parsed = Parse({"--model=/m"});
  EXPECT_FALSE(parsed.exit_code) << parsed.said;
  EXPECT_EQ(parsed.options.model, "/m");
  EXPECT_EQ(parsed.options.tensor_parallel, 1);
  EXPECT_EQ(parsed.options.stall_limit, absl::Seconds(10));
  EXPECT_TRUE(parsed.options.verify_weights);
  EXPECT_TRUE(parsed.options.prefix_cache);
  EXPECT_EQ(parsed.options.device, "auto");
  EXPECT_FALSE(parsed.options.batch_invariant);
  EXPECT_TRUE(Parse({"--model=/m", "--batch_invariant=true"}).options.batch_invariant);
  EXPECT_FALSE(Parse({"--model=/m", "--device=cuda", "--dtype=float16"}).exit_code);
  EXPECT_FALSE(Parse({"--model=/m", "--verify_weights=false"}).options.verify_weights);
  EXPECT_FALSE(Parse({"--model=/m", "--prefix_cache=false"}).options.prefix_cache);
  EXPECT_GE(parsed.options.max_step_tokens, parsed.options.max_sequences);
}

TEST(WorkerFlags, WrongValuesAreUsageErrorsInOneLine) {
  for (const char* flag : {"--tensor_parallel=0",
                           "--tensor_parallel=65",
                           "--threads=-1",
                           "--threads=1025",
                           "--max_sequences=0",
                           "--max_sequences=4097",
                           "--max_step_tokens=15",
                           "--max_queued_requests=0",
                           "--stall_limit=999ms",
                           "--stall_limit=25h",
                           "--drain_timeout=25h",
                           "--drain_timeout=-1s",
                           "--max_restarts=-1",
                           "--device=gpu",
                           "--dtype=int8",
                           "--log_format=xml",
                           "--no_such_flag=1"}) {
    const Parsed parsed = Parse({"--model=/m", flag});
    EXPECT_EQ(parsed.exit_code, ExitCode::kUsage) << flag;
    EXPECT_EQ(std::count(parsed.said.begin(), parsed.said.end(), '\n'), 1) << parsed.said;
  }
  EXPECT_EQ(Parse({}).exit_code, ExitCode::kUsage);
}

}  // namespace
}  // namespace phi::service
