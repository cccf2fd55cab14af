#include "service/telemetry/metric_page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <limits>
#include <thread>

namespace phi::service {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

std::string Text(const MetricPage& page) {
  return prometheus::TextSerializer().Serialize(page.Collect());
}

const prometheus::MetricFamily* Find(const std::vector<prometheus::MetricFamily>& families,
                                     std::string_view name) {
  for (const auto& family : families) {
    if (family.name == name) return &family;
  }
  return nullptr;
}

TEST(MetricPageTest, StartsEmpty) {
  const auto page = MetricPage::Create(1);
  ASSERT_TRUE(page.ok());
  EXPECT_TRUE((*page)->Collect().empty());
  EXPECT_EQ((*page)->fd(), -1);
}

TEST(MetricPageTest, ASeriesWithoutLabelsIsSeenFromItsGetOn) {
  const auto page = MetricPage::Create(1);
  ASSERT_TRUE(page.ok());
  (*page)->Get(MetricId::kPreemptionsTotal);
  EXPECT_THAT(Text(**page), HasSubstr("\nphi_preemptions_total 0\n"));
}

TEST(MetricPageTest, ASeriesWithLabelsIsSeenOnceWrittenTo) {
  const auto page = MetricPage::Create(1);
  ASSERT_TRUE(page.ok());
  const auto decode = (*page)->Get(MetricId::kCancelledTotal, {StageLabel::kDecode});
  (*page)->Get(MetricId::kCancelledTotal, {StageLabel::kQueued});
  decode.Add(2);
  decode.Add(1);
  EXPECT_EQ(decode.Value(), 3);
  EXPECT_THAT(Text(**page), HasSubstr("phi_cancelled_total{stage=\"decode\"} 3\n"));
  EXPECT_THAT(Text(**page), Not(HasSubstr("queued")));
}

TEST(MetricPageTest, CountersCanBeShownBeforeTheirFirstEvent) {
  const auto page = MetricPage::Create(2);
  ASSERT_TRUE(page.ok());
  (*page)->ShowCounters({MetricSource::kLeader, MetricSource::kSupervisor});
  const std::string text = Text(**page);
  EXPECT_THAT(text, HasSubstr("phi_cancelled_total{stage=\"queued\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("phi_replica_restarts_total{cause=\"stall\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("\nphi_preemptions_total 0\n"));
  EXPECT_THAT(text, Not(HasSubstr("phi_router")));  // another program's
  EXPECT_THAT(text, Not(HasSubstr("phi_collective")));
  EXPECT_THAT(text, Not(HasSubstr("_seconds")));  // gauges and histograms come when they are known
}

TEST(MetricPageTest, EveryLabelCombinationHasItsOwnCell) {
  const auto page = MetricPage::Create(3);
  ASSERT_TRUE(page.ok());
  for (size_t rank = 0; rank < 3; ++rank) {
    for (size_t kind = 0; kind < 4; ++kind) {
      (*page)
          ->Get(MetricId::kDeviceMemoryBytes, {rank, kind})
          .Set(static_cast<double>(10 * rank + kind));
    }
  }
  const auto families = (*page)->Collect();
  const auto* family = Find(families, "phi_device_memory_bytes");
  ASSERT_NE(family, nullptr);
  ASSERT_EQ(family->metric.size(), 12U);
  EXPECT_EQ(family->metric[6].label[0].value, "1");
  EXPECT_EQ(family->metric[6].label[1].value, "activations");
  EXPECT_EQ(family->metric[6].gauge.value, 12);
}

TEST(MetricPageTest, HistogramBucketsAreCumulativeAndInclusive) {
  const auto page = MetricPage::Create(1);
  ASSERT_TRUE(page.ok());
  const auto series = (*page)->Get(MetricId::kBatchSize, {PhaseLabel::kDecode});
  for (const double value : {1.0, 2.0, 2.5, 1000.0}) series.Observe(value);
  const auto families = (*page)->Collect();
  const auto* family = Find(families, "phi_batch_size");
  ASSERT_NE(family, nullptr);
  const auto& histogram = family->metric.at(0).histogram;
  EXPECT_EQ(histogram.sample_count, 4U);
  EXPECT_EQ(histogram.sample_sum, 1005.5);
  EXPECT_EQ(histogram.bucket.size(), MetricInfo(MetricId::kBatchSize).buckets.size() + 1);
  EXPECT_EQ(histogram.bucket[0].cumulative_count, 1U);  // le 1
  EXPECT_EQ(histogram.bucket[1].cumulative_count, 2U);  // le 2
  EXPECT_EQ(histogram.bucket[2].cumulative_count, 3U);  // le 4
  EXPECT_EQ(histogram.bucket.back().cumulative_count, 4U);
  EXPECT_EQ(histogram.bucket.back().upper_bound, std::numeric_limits<double>::infinity());
  EXPECT_EQ(series.Value(), 4);
}

TEST(MetricPageTest, ReplicasComeAndGoWithTheirSeries) {
  const auto page = MetricPage::Create(1);
  ASSERT_TRUE(page.ok());
  const auto slot = (*page)->AddReplica("127.0.0.1:50052");
  ASSERT_TRUE(slot.ok());
  const auto ready =
      (*page)->Get(MetricId::kRouterReplicaState, {*slot, ReplicaStateLabel::kReady});
  const auto lost = (*page)->Get(MetricId::kRouterReplicaState, {*slot, ReplicaStateLabel::kLost});
  ready.Set(1);
  lost.Set(0);
  EXPECT_THAT(Text(**page), HasSubstr("{replica=\"127.0.0.1:50052\",state=\"ready\"} 1\n"));
  EXPECT_THAT(Text(**page), Not(HasSubstr("lost")));
  (*page)->RemoveReplica(*slot);
  EXPECT_THAT(Text(**page), Not(HasSubstr("127.0.0.1:50052")));
  const auto next = (*page)->AddReplica("other:1");
  ASSERT_TRUE(next.ok());
  EXPECT_EQ(*next, *slot);
  EXPECT_THAT(Text(**page), Not(HasSubstr("other:1")));
}

TEST(MetricPageTest, ReplicaSlotsAreBounded) {
  const auto page = MetricPage::Create(1);
  ASSERT_TRUE(page.ok());
  for (size_t i = 0; i < kMaxReplicas; ++i) {
    ASSERT_TRUE((*page)->AddReplica("replica" + std::to_string(i)).ok());
  }
  EXPECT_EQ((*page)->AddReplica("one more").status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(MetricPageTest, InfoCarriesItsTexts) {
  const auto page = MetricPage::Create(1);
  ASSERT_TRUE(page.ok());
  (*page)->SetInfo(MetricId::kBuildInfo, {"phi-router", "0.1.0", "g++ \"12\"", "Release"});
  EXPECT_THAT(Text(**page),
              HasSubstr("phi_build_info{program=\"phi-router\",version=\"0.1.0\",compiler=\"g++ "
                        "\\\"12\\\"\",build_type=\"Release\"} 1\n"));
}

TEST(MetricPageTest, ADefaultMadeSeriesDropsWhatItIsGiven) {
  const MetricPage::Series series;
  series.Add(1);
  series.Set(1);
  series.Observe(1);
  EXPECT_EQ(series.Value(), 0);
}

TEST(MetricPageTest, ParallelWritersLoseNothing) {
  const auto page = MetricPage::Create(1);
  ASSERT_TRUE(page.ok());
  const auto total = (*page)->Get(MetricId::kGeneratedTokensTotal);
  const auto step = (*page)->Get(MetricId::kStepSeconds, {PhaseLabel::kDecode});
  constexpr int kWrites = 5000;
  {
    std::vector<std::jthread> writers;
    for (int i = 0; i < 4; ++i) {
      writers.emplace_back([&] {
        for (int n = 0; n < kWrites; ++n) {
          total.Add(1);
          step.Observe(0.25);
        }
      });
    }
    (*page)->Collect();
  }
  EXPECT_EQ(total.Value(), 4 * kWrites);
  EXPECT_EQ(step.Value(), 4 * kWrites);
  const auto families = (*page)->Collect();
  EXPECT_EQ(Find(families, "phi_step_seconds")->metric.at(0).histogram.sample_sum,
            4 * kWrites * 0.25);
}

TEST(MetricPageTest, AChildWritesToItsParentsPageAndItsDeathKeepsTheCount) {
  const auto page = MetricPage::CreateShared(2);
  ASSERT_TRUE(page.ok());
  (*page)->Get(MetricId::kCollectiveBytesTotal, {1}).Add(5);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const auto attached = MetricPage::Attach(::dup((*page)->fd()), 2);
    if (!attached.ok()) ::_exit(1);
    (*attached)->Get(MetricId::kCollectiveBytesTotal, {1}).Add(37);
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  EXPECT_THAT(Text(**page), HasSubstr("phi_collective_bytes_total{rank=\"1\"} 42\n"));
}

TEST(MetricPageTest, APageOfAnotherShapeIsRefused) {
  const auto page = MetricPage::CreateShared(2);
  ASSERT_TRUE(page.ok());
  const auto attached = MetricPage::Attach((*page)->fd(), 4);
  EXPECT_EQ(attached.status().code(), absl::StatusCode::kInvalidArgument);
  // The descriptor stayed the caller's.
  EXPECT_TRUE(MetricPage::Attach(::dup((*page)->fd()), 2).ok());
  EXPECT_FALSE(MetricPage::Attach(-1, 2).ok());
}

TEST(MetricPageDeathTest, WrongLabelsAbort) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto page = MetricPage::Create(2);
  ASSERT_TRUE(page.ok());
  EXPECT_DEATH((*page)->Get(MetricId::kRankUp, {2}), "phi_rank_up: label 0 is 2 of 2");
  EXPECT_DEATH((*page)->Get(MetricId::kRankUp), "phi_rank_up has 1 labels, not 0");
}

}  // namespace
}  // namespace phi::service
