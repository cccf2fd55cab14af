#include "tools/phictl/bench/workload.h"

#include <gmock/gmock.h>

#include <cmath>
#include <set>

namespace phi::phictl {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

WorkloadOptions Options(const char* prompt = "100", const char* output = "10") {
  WorkloadOptions options;
  options.prompt = *LengthDistribution::Parse(prompt);
  options.output = *LengthDistribution::Parse(output);
  options.seed = 7;
  options.context_tokens = 1 << 21;
  options.vocabulary_tokens = 1000;
  return options;
}

std::vector<PlannedRequest> All(const WorkloadOptions& options) {
  Workload workload(options);
  std::vector<PlannedRequest> requests;
  while (auto request = workload.Next()) requests.push_back(*request);
  return requests;
}

TEST(ArrivalsTest, PoissonGapsHaveTheRateAndTheSpreadOfAnExponential) {
  WorkloadOptions options = Options();
  options.rate = 50;
  options.num_requests = 20'000;
  const auto requests = All(options);
  ASSERT_EQ(requests.size(), 20'000U);
  double sum = 0;
  double squares = 0;
  absl::Duration last;
  for (const auto& request : requests) {
    EXPECT_GE(request.offset, last);
    const double gap = absl::ToDoubleSeconds(request.offset - last);
    last = request.offset;
    sum += gap;
    squares += gap * gap;
  }
  // Five standard errors of the mean of n exponential variables, and of their variance (which has
  // the relative standard error sqrt(8 / n)).
  const double n = 20'000;
  const double mean = sum / n;
  EXPECT_NEAR(mean, 0.02, 5 * 0.02 / std::sqrt(n));
  EXPECT_NEAR((squares / n - mean * mean) / (0.02 * 0.02), 1, 5 * std::sqrt(8 / n));
}

TEST(ArrivalsTest, UniformGapsAreEqualAndEndWithTheDuration) {
  WorkloadOptions options = Options();
  options.rate = 10;
  options.arrivals = Arrivals::kUniform;
  options.duration = absl::Milliseconds(1050);
  const auto requests = All(options);
  ASSERT_EQ(requests.size(), 10U);
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_NEAR(
        absl::ToDoubleSeconds(requests[i].offset), 0.1 * (static_cast<double>(i) + 1), 1e-6);
    EXPECT_EQ(requests[i].index, i);
  }
}

TEST(ArrivalsTest, TheSameSeedGivesTheSameLoadAndAnotherAnotherOne) {
  WorkloadOptions options = Options("lognormal:200,0.8", "uniform:1-50");
  options.rate = 5;
  options.num_requests = 50;
  options.cancel_share = 0.3;
  const auto plan = [&options] {
    std::vector<std::tuple<absl::Duration, uint32_t, uint32_t, std::optional<uint32_t>>> rows;
    for (const auto& r : All(options))
      rows.emplace_back(r.offset, r.prompt_tokens, r.output_tokens, r.cancel_after_tokens);
    return rows;
  };
  const auto first = plan();
  EXPECT_EQ(first, plan());
  options.seed = 8;
  EXPECT_NE(first, plan());
}

TEST(LengthDistributionTest, DrawsWhatItSays) {
  std::mt19937_64 random(1);
  EXPECT_EQ(LengthDistribution::Parse("17")->Draw(random), 17U);
  std::set<uint32_t> seen;
  const auto uniform = *LengthDistribution::Parse("uniform:3-6");
  for (int i = 0; i < 200; ++i) seen.insert(uniform.Draw(random));
  EXPECT_THAT(seen, ElementsAre(3, 4, 5, 6));

  const auto lognormal = *LengthDistribution::Parse("lognormal:220,0.5");
  double sum = 0;
  const int n = 20'000;
  for (int i = 0; i < n; ++i) sum += lognormal.Draw(random);
  // The variance of a lognormal variable is mean^2 (exp(sigma^2) - 1); rounding adds half a token.
  const double deviation = 220 * std::sqrt(std::expm1(0.25));
  EXPECT_NEAR(sum / n, 220, 5 * deviation / std::sqrt(n) + 0.5);
}

TEST(LengthDistributionTest, RefusesWhatIsNone) {
  for (const char* text : {"",
                           "0",
                           "-3",
                           "nan",
                           "2000000",
                           "uniform:5",
                           "uniform:6-5",
                           "uniform:0-5",
                           "lognormal:100",
                           "lognormal:100,0",
                           "lognormal:100,9",
                           "normal:3,4",
                           "5 x"}) {
    EXPECT_FALSE(LengthDistribution::Parse(text).ok()) << text;
  }
}

TEST(WorkloadTest, CutsLengthsToTheContext) {
  WorkloadOptions options = Options("500", "300");
  options.num_requests = 1;
  options.context_tokens = 400;
  const auto cut = All(options).at(0);
  EXPECT_EQ(cut.output_tokens, 300U);
  EXPECT_EQ(cut.prompt_tokens, 100U);
  options.output = *LengthDistribution::Parse("4000");
  const auto cut_more = All(options).at(0);
  EXPECT_EQ(cut_more.output_tokens, 399U);
  EXPECT_EQ(cut_more.prompt_tokens, 1U);
}

TEST(WorkloadTest, PromptsShareThePrefixAndNothingElse) {
  WorkloadOptions options = Options("50", "10");
  options.num_requests = 2;
  options.shared_prefix = 30;
  Workload workload(options);
  const auto first = workload.PromptTokens(*workload.Next());
  const auto second = workload.PromptTokens(*workload.Next());
  ASSERT_EQ(first.size(), 80U);
  ASSERT_EQ(second.size(), 80U);
  EXPECT_TRUE(std::equal(first.begin(), first.begin() + 30, second.begin()));
  EXPECT_FALSE(std::equal(first.begin() + 30, first.end(), second.begin() + 30));
  for (const uint32_t id : first) EXPECT_LT(id, 1000U);
}

TEST(WorkloadTest, CancelsTheShareAskedForWithinTheAnswer) {
  WorkloadOptions options = Options();
  options.num_requests = 10'000;
  options.cancel_share = 0.2;
  int cancelled = 0;
  for (const auto& request : All(options)) {
    if (!request.cancel_after_tokens.has_value()) continue;
    ++cancelled;
    EXPECT_LT(*request.cancel_after_tokens, request.output_tokens);
  }
  EXPECT_NEAR(cancelled, 2000, 5 * std::sqrt(10'000 * 0.2 * 0.8));
}

TEST(TraceTest, ReadsBothForms) {
  const TraceEntry first{absl::ZeroDuration(), 128, 64};
  const TraceEntry second{absl::Milliseconds(1500), 1, 2};
  const auto csv = ParseTrace("seconds,prompt,output\n# a comment\n0,128,64\r\n\n1.5, 1, 2\n");
  ASSERT_TRUE(csv.ok()) << csv.status();
  EXPECT_THAT(*csv, ElementsAre(first, second));
  const auto json = ParseTrace(
      "{\"offset\": 0, \"prompt_tokens\": 128, \"output_tokens\": 64}\n"
      "{\"output_tokens\": 2, \"prompt_tokens\": 1, \"offset\": 1.5, \"note\": \"x\"}");
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_THAT(*json, ElementsAre(first, second));

  WorkloadOptions options = Options();
  options.trace = *csv;
  const auto requests = All(options);
  ASSERT_EQ(requests.size(), 2U);
  EXPECT_EQ(requests[1].offset, absl::Milliseconds(1500));
  EXPECT_EQ(requests[1].prompt_tokens, 1U);
  EXPECT_EQ(requests[1].output_tokens, 2U);
}

TEST(TraceTest, NamesTheLineThatIsWrong) {
  for (const char* bad : {"1,2",
                          "1,2,3,4",
                          "x,2,3",
                          "5,0,3",
                          "5,2,0",
                          "5,2.5,3",
                          "-1,2,3",
                          "nan,2,3",
                          "0.5,2,3",
                          "5,2,9999999",
                          "{",
                          "{\"offset\": 5}",
                          "{\"offset\": \"5\"}"}) {
    const auto trace = ParseTrace(std::string("1,10,10\n") + bad + "\n");
    ASSERT_FALSE(trace.ok()) << bad;
    EXPECT_THAT(std::string(trace.status().message()), HasSubstr("line 2")) << bad;
  }
  EXPECT_FALSE(ParseTrace("").ok());
  EXPECT_FALSE(ParseTrace("seconds,prompt,output\nmore,names,here\n").ok());
}

}  // namespace
}  // namespace phi::phictl
