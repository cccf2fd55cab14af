#include "service/telemetry/metric_catalog.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

#include "service/api/error.h"
#include "service/telemetry/metric_labels.h"
#include "service/telemetry/metric_page.h"

namespace phi::service {
namespace {

// Series as a scrape counts them: a histogram has its buckets, the one above, a sum and a count.
size_t ExportedSeries(const MetricRow& row, size_t ranks) {
  size_t series = row.type == MetricType::kHistogram ? row.buckets.size() + 3 : 1;
  for (const MetricLabel& label : row.labels) {
    if (label.kind == LabelKind::kRank) series *= ranks;
    if (label.kind == LabelKind::kValues) series *= label.values.size();
  }
  return series;
}

TEST(MetricCatalogTest, RowsAreInTheEnumsOrder) {
  const auto rows = MetricCatalog();
  ASSERT_EQ(rows.size(), static_cast<size_t>(MetricId::kNumMetrics));
  for (size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(static_cast<size_t>(rows[i].id), i);
    EXPECT_EQ(&MetricInfo(rows[i].id), &rows[i]);
  }
}

TEST(MetricCatalogTest, NamesFollowPrometheus) {
  std::set<std::string> names;
  for (const MetricRow& row : MetricCatalog()) {
    const std::string name(row.name);
    SCOPED_TRACE(name);
    EXPECT_TRUE(names.insert(name).second);
    EXPECT_TRUE(name.starts_with("phi_"));
    EXPECT_EQ(name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_"), std::string::npos);
    EXPECT_EQ(name.ends_with("_total"), row.type == MetricType::kCounter);
    EXPECT_TRUE(row.help.ends_with('.'));
    std::set<std::string_view> label_names;
    for (const MetricLabel& label : row.labels) {
      EXPECT_TRUE(label_names.insert(label.name).second) << label.name;
      EXPECT_EQ(label.values.empty(), label.kind != LabelKind::kValues) << label.name;
      const std::set<std::string_view> values(label.values.begin(), label.values.end());
      EXPECT_EQ(values.size(), label.values.size()) << label.name;
    }
  }
}

TEST(MetricCatalogTest, BucketsAscendAndBelongToHistograms) {
  for (const MetricRow& row : MetricCatalog()) {
    SCOPED_TRACE(std::string(row.name));
    EXPECT_EQ(row.buckets.empty(), row.type != MetricType::kHistogram);
    EXPECT_TRUE(std::is_sorted(row.buckets.begin(), row.buckets.end()));
    EXPECT_EQ(std::adjacent_find(row.buckets.begin(), row.buckets.end()), row.buckets.end());
  }
}

TEST(MetricCatalogTest, AWorkerOfEightRanksHasAtMost600Series) {
  size_t series = 5;  // process_*
  for (const MetricRow& row : MetricCatalog()) {
    if (row.source != MetricSource::kRouter) series += ExportedSeries(row, 8);
  }
  EXPECT_LE(series, 600U);
}

// What a label's enumerator is called by must be what stands in the table at its index.
TEST(MetricCatalogTest, LabelEnumsIndexTheirValues) {
  EXPECT_EQ(LabelValues<MethodLabel>()[size_t(MethodLabel::kOther)], "other");
  EXPECT_EQ(LabelValues<PhaseLabel>()[size_t(PhaseLabel::kDecode)], "decode");
  EXPECT_EQ(LabelValues<FinishLabel>()[size_t(FinishLabel::kTimeLimit)], "time_limit");
  EXPECT_EQ(LabelValues<FinishLabel>()[size_t(FinishLabel::kError)], "error");
  EXPECT_EQ(LabelValues<StageLabel>()[size_t(StageLabel::kDecode)], "decode");
  EXPECT_EQ(LabelValues<WasteLabel>()[size_t(WasteLabel::kError)], "error");
  EXPECT_EQ(LabelValues<CollectiveLabel>()[size_t(CollectiveLabel::kGather)], "gather");
  EXPECT_EQ(LabelValues<MemoryLabel>()[size_t(MemoryLabel::kFree)], "free");
  EXPECT_EQ(LabelValues<KvBlockLabel>()[size_t(KvBlockLabel::kOwned)], "owned");
  EXPECT_EQ(LabelValues<RestartLabel>()[size_t(RestartLabel::kStartup)], "startup");
  EXPECT_EQ(LabelValues<StartupLabel>()[size_t(StartupLabel::kTotal)], "total");
  EXPECT_EQ(LabelValues<ReplicaStateLabel>()[size_t(ReplicaStateLabel::kRefused)], "refused");
  EXPECT_EQ(LabelValues<RouterLimitLabel>()[size_t(RouterLimitLabel::kMessageBytes)],
            "message_bytes");
  EXPECT_EQ(LabelValues<RetryLabel>()[size_t(RetryLabel::kFull)], "full");
  EXPECT_EQ(LabelValues<SlowReaderLabel>()[size_t(SlowReaderLabel::kBufferFull)], "buffer_full");
  EXPECT_EQ(CodeLabelValues()[LabelIndex(absl::StatusCode::kUnavailable).value()], "UNAVAILABLE");
  EXPECT_EQ(ReasonLabelValues()[kReasonNone], "none");
  for (const ErrorReasonRow& row : ErrorReasons()) {
    EXPECT_EQ(ReasonLabelValues()[LabelIndex(row.reason).value()], row.name);
  }
}

}  // namespace
}  // namespace phi::service
