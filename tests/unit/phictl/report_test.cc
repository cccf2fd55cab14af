#include "tools/phictl/bench/report.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tools/phictl/bench/plot.h"
#include "tools/phictl/bench/progress.h"

namespace phi::phictl {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const absl::Time kStart = absl::FromUnixSeconds(1'000'000);
const LoadWords kWords = {.load = "trace <a&b>.csv, seed 1", .slo = "ttft=20ms"};

// A hundred answers, one every 10 ms, the i-th one's first token after i ms; ten refusals.
class Recorded : public LoadRecorder {
 public:
  Recorded();
};

Recorded::Recorded()
    : LoadRecorder(kStart, kStart, kStart + absl::Seconds(1), *Slo::Parse("ttft=20ms")) {
  for (int i = 1; i <= 110; ++i) {
    Outcome outcome;
    outcome.due = outcome.sent = kStart + absl::Milliseconds(9) * i;
    outcome.first_token = outcome.due + absl::Milliseconds(i);
    outcome.last_token = outcome.end = *outcome.first_token + absl::Milliseconds(50);
    outcome.num_tokens = 2;
    if (i > 100) {
      outcome.ending = Outcome::Ending::kFailed;
      outcome.first_token.reset();
      outcome.code = "RESOURCE_EXHAUSTED";
      outcome.reason = "QUEUE_FULL";
    }
    OnStart();
    if (i <= 100) {
      OnTokens(outcome.due, *outcome.first_token, 1, std::nullopt);
      OnTokens(outcome.due, outcome.last_token, 1, absl::Milliseconds(50));
    }
    OnEnd(outcome);
  }
}

TEST(ReportTest, TextSaysWhatMatters) {
  const std::string text = TextReport(kWords, Recorded().result());
  EXPECT_THAT(text, HasSubstr("110 in 1.0 s: 100 answered, 10 failed, 0 cancelled"));
  EXPECT_THAT(text, HasSubstr("10 x RESOURCE_EXHAUSTED QUEUE_FULL"));
  EXPECT_THAT(text, HasSubstr("goodput      20.00/s within ttft=20ms (18.2% of the requests)"));
  EXPECT_THAT(text, Not(HasSubstr("SATURATED")));
}

TEST(ReportTest, SaturationIsLoud) {
  Recorded recorder;
  Outcome outcome;
  outcome.ending = Outcome::Ending::kSaturated;
  outcome.due = outcome.sent = outcome.end = kStart;
  recorder.OnEnd(outcome);
  EXPECT_THAT(TextReport(kWords, recorder.result()),
              HasSubstr("CLIENT SATURATED: 1 requests were never sent"));
}

TEST(ReportTest, JsonHasTheSameNumbers) {
  const Recorded recorder;
  const auto report =
      nlohmann::json::parse(JsonReport(kWords, recorder.result(), recorder.timeline()));
  EXPECT_EQ(report["requests"]["all"], 110);
  EXPECT_EQ(report["requests"]["answered"], 100);
  EXPECT_EQ(report["failures"][0]["reason"], "QUEUE_FULL");
  EXPECT_EQ(report["failures"][0]["count"], 10);
  EXPECT_NEAR(report["first_token"]["p90_ms"].get<double>(), 90, 90.0 / 128);
  EXPECT_EQ(report["goodput"]["requests"], 20);
  EXPECT_EQ(report["inter_token"]["count"], 100);
  int tokens = 0;
  for (const auto& interval : report["timeline"]["intervals"])
    tokens += interval["tokens"].get<int>();
  EXPECT_EQ(tokens, 200);
}

// Every tag is closed in order, attributes are quoted, and no bare < or & is left.
void ExpectWellFormed(const std::string& svg) {
  std::vector<std::string> open;
  for (size_t at = svg.find('<'); at != std::string::npos; at = svg.find('<', at + 1)) {
    const size_t end = svg.find('>', at);
    ASSERT_NE(end, std::string::npos);
    const std::string tag = svg.substr(at + 1, end - at - 1);
    ASSERT_THAT(tag, Not(HasSubstr("<")));
    EXPECT_EQ(std::count(tag.begin(), tag.end(), '"') % 2, 0) << tag;
    const std::string name =
        tag.substr(tag[0] == '/' ? 1 : 0, tag.find_first_of(" /", 1) - (tag[0] == '/' ? 1 : 0));
    if (tag[0] == '/') {
      ASSERT_FALSE(open.empty()) << tag;
      EXPECT_EQ(open.back(), tag.substr(1));
      open.pop_back();
    } else if (tag.back() != '/') {
      open.push_back(name);
    }
  }
  EXPECT_TRUE(open.empty());
  for (size_t at = svg.find('&'); at != std::string::npos; at = svg.find('&', at + 1)) {
    const std::string entity = svg.substr(at, svg.find(';', at) - at);
    EXPECT_THAT((std::vector<std::string>{"&amp", "&lt", "&gt"}), ::testing::Contains(entity));
  }
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
  EXPECT_THAT(svg, Not(HasSubstr("inf")));
}

TEST(PlotTest, IsWellFormedWithAndWithoutSamples) {
  const Recorded recorder;
  const std::string svg = SvgPlot(kWords, recorder.result(), recorder.timeline());
  ExpectWellFormed(svg);
  EXPECT_THAT(svg, HasSubstr("trace &lt;a&amp;b&gt;.csv"));
  EXPECT_THAT(svg, HasSubstr("goodput 20.0/s within ttft=20ms"));
  const LoadRecorder nothing(kStart, kStart, kStart + absl::Seconds(1), {});
  ExpectWellFormed(SvgPlot({}, nothing.result(), nothing.timeline()));
}

TEST(ProgressTest, KnowsHowFarItIsWhereAnEndIsKnown) {
  const LiveCounts counts{.inflight = 3, .num_ended = 30, .num_failed = 1, .num_tokens = 500};
  const absl::Time now = kStart + absl::Seconds(5);
  const Progress by_time(stderr, false, kStart, absl::Seconds(20), std::nullopt);
  EXPECT_EQ(by_time.Line(now, counts),
            "[######------------------]  25%  5 s  3 in flight  30 ended  1 failed  100 tokens/s");
  const Progress by_count(stderr, false, kStart, absl::InfiniteDuration(), 40);
  EXPECT_THAT(by_count.Line(now, counts), HasSubstr(" 75%  5 s"));
  const Progress endless(stderr, false, kStart, absl::InfiniteDuration(), std::nullopt);
  EXPECT_THAT(endless.Line(now, counts), ::testing::StartsWith("5 s  3 in flight"));
}

}  // namespace
}  // namespace phi::phictl
