#pragma once

#include <array>

#include "service/telemetry/metric_labels.h"
#include "service/telemetry/metric_page.h"
#include "service/worker/batching/kv_block_pool.h"
#include "service/worker/engine_request.h"
#include "service/worker/scheduler.h"

namespace phi::service {

// What the step loop tells the metric page. Lock-free and cheap: once a token, once a step.
class LeaderMetrics {
 public:
  // `page` outlives this.
  explicit LeaderMetrics(const MetricPage& page);

  void OnToken(uint32_t sample, const RequestTimes& times) const;
  void OnEnd(const RequestEnd& end) const;
  // `seconds`: of the whole step, the plan's way to the ranks included.
  void OnStep(const StepWork& work, double seconds) const;
  void OnLoad(const Occupancy& occupancy, const KvBlockPool::Counts& kv) const;
  // `counts` less those of the call before are added.
  void OnCounts(const SchedulerCounts& before, const SchedulerCounts& counts) const;

 private:
  using Series = MetricPage::Series;
  // Of one label, whose last value is kLast.
  template <typename Entry, auto kLast>
  using ByLabel = std::array<Entry, static_cast<size_t>(kLast) + 1>;
  struct PhaseSeries {
    Series seconds;
    Series tokens;
    Series batch_size;
  };

  Series first_token_;
  Series inter_token_;
  Series queue_;
  Series prefill_;
  Series prompt_tokens_;
  Series generated_tokens_;
  Series prefix_hit_tokens_;
  Series preemptions_;
  Series running_;
  Series waiting_;
  Series waiting_tokens_;
  Series kv_usage_;
  ByLabel<Series, FinishLabel::kError> duration_;
  ByLabel<Series, WasteLabel::kError> wasted_;
  ByLabel<Series, StageLabel::kDecode> cancelled_;
  ByLabel<Series, KvBlockLabel::kOwned> kv_blocks_;
  ByLabel<PhaseSeries, PhaseLabel::kDecode> phases_;
};

}  // namespace phi::service
