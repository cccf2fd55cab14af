#include "service/worker/leader_metrics.h"

#include <algorithm>
#include <utility>

#include "kernels/base/check.h"

namespace phi::service {
namespace {

FinishLabel LabelOf(const RequestEnd& end) {
  if (absl::IsCancelled(end.status)) return FinishLabel::kCancelled;
  if (!end.status.ok()) return FinishLabel::kError;
  switch (end.reason) {
    case FinishReason::kEos:
      return FinishLabel::kEos;
    case FinishReason::kStopToken:
      return FinishLabel::kStopToken;
    case FinishReason::kMaxNewTokens:
      return FinishLabel::kMaxNewTokens;
    case FinishReason::kContextLength:
      return FinishLabel::kContextLength;
    case FinishReason::kTimeLimit:
      return FinishLabel::kTimeLimit;
    case FinishReason::kStopString:
      return FinishLabel::kStopString;
    case FinishReason::kStopCondition:
      return FinishLabel::kStopCondition;
  }
  return FinishLabel::kError;
}

WasteLabel WasteOf(const absl::Status& status) {
  if (absl::IsCancelled(status)) return WasteLabel::kCancelled;
  return absl::IsDeadlineExceeded(status) ? WasteLabel::kDeadline : WasteLabel::kError;
}

template <typename Label, size_t kCount>
void GetAll(const MetricPage& page, MetricId id, std::array<MetricPage::Series, kCount>& series) {
  PHI_CHECK(kCount == LabelValues<Label>().size(), "%zu series of a label", kCount);
  for (size_t i = 0; i < kCount; ++i) series[i] = page.Get(id, {static_cast<Label>(i)});
}

template <size_t kCount, typename Label>
const MetricPage::Series& At(const std::array<MetricPage::Series, kCount>& series, Label label) {
  return series[static_cast<size_t>(label)];
}

}  // namespace

LeaderMetrics::LeaderMetrics(const MetricPage& page)
    : first_token_(page.Get(MetricId::kTimeToFirstTokenSeconds)),
      inter_token_(page.Get(MetricId::kInterTokenSeconds)),
      queue_(page.Get(MetricId::kQueueSeconds)),
      prefill_(page.Get(MetricId::kPrefillSeconds)),
      prompt_tokens_(page.Get(MetricId::kPromptTokensTotal)),
      generated_tokens_(page.Get(MetricId::kGeneratedTokensTotal)),
      prefix_hit_tokens_(page.Get(MetricId::kPrefixHitTokensTotal)),
      preemptions_(page.Get(MetricId::kPreemptionsTotal)),
      running_(page.Get(MetricId::kRequestsRunning)),
      waiting_(page.Get(MetricId::kRequestsWaiting)),
      waiting_tokens_(page.Get(MetricId::kWaitingTokens)),
      kv_usage_(page.Get(MetricId::kKvUsageRatio)) {
  GetAll<FinishLabel>(page, MetricId::kRequestDurationSeconds, duration_);
  GetAll<WasteLabel>(page, MetricId::kWastedTokensTotal, wasted_);
  GetAll<StageLabel>(page, MetricId::kCancelledTotal, cancelled_);
  GetAll<KvBlockLabel>(page, MetricId::kKvBlocks, kv_blocks_);
  for (const PhaseLabel phase : {PhaseLabel::kPrefill, PhaseLabel::kDecode}) {
    phases_[static_cast<size_t>(phase)] = {.seconds = page.Get(MetricId::kStepSeconds, {phase}),
                                           .tokens = page.Get(MetricId::kStepTokens, {phase}),
                                           .batch_size = page.Get(MetricId::kBatchSize, {phase})};
  }
}

void LeaderMetrics::OnToken(uint32_t sample, const RequestTimes& times) const {
  generated_tokens_.Add(1);
  if (times.latest_token != times.first_token) {
    inter_token_.Observe(Seconds(times.latest_token - times.previous_token));
    return;
  }
  if (sample != 0) return;  // all samples have their first token at once
  queue_.Observe(Seconds(times.admitted - times.arrival));
  prefill_.Observe(Seconds(times.first_token - times.admitted));
  first_token_.Observe(Seconds(times.first_token - times.arrival));
}

void LeaderMetrics::OnEnd(const RequestEnd& end) const {
  At(duration_, LabelOf(end)).Observe(Seconds(end.ended - end.times.arrival));
  // Without those that left the queue in vain, the queue would look best when it is worst.
  if (end.stage == RequestStage::kQueued) queue_.Observe(Seconds(end.ended - end.times.arrival));
  if (end.stage == RequestStage::kPrefill)
    queue_.Observe(Seconds(end.times.admitted - end.times.arrival));
  if (end.status.ok()) return;
  if (end.computed_tokens > 0) At(wasted_, WasteOf(end.status)).Add(end.computed_tokens);
  if (absl::IsCancelled(end.status)) At(cancelled_, end.stage).Add(1);
}

void LeaderMetrics::OnStep(const StepWork& work, double seconds) const {
  const PhaseLabel phase = work.prefill_tokens > 0 ? PhaseLabel::kPrefill : PhaseLabel::kDecode;
  const PhaseSeries& series = phases_[static_cast<size_t>(phase)];
  series.seconds.Observe(seconds);
  series.tokens.Observe(work.prefill_tokens + work.decode_tokens);
  series.batch_size.Observe(static_cast<double>(work.request_ids.size()));
}

void LeaderMetrics::OnLoad(const Occupancy& occupancy, const KvBlockPool::Counts& kv) const {
  running_.Set(occupancy.running_requests);
  waiting_.Set(occupancy.waiting_requests);
  waiting_tokens_.Set(occupancy.waiting_tokens);
  At(kv_blocks_, KvBlockLabel::kFree).Set(kv.free);
  At(kv_blocks_, KvBlockLabel::kCached).Set(kv.cached);
  At(kv_blocks_, KvBlockLabel::kOwned).Set(kv.owned);
  kv_usage_.Set(static_cast<double>(kv.owned) / std::max(1U, kv.free + kv.cached + kv.owned));
}

void LeaderMetrics::OnCounts(const SchedulerCounts& before, const SchedulerCounts& counts) const {
  const auto add = [](const Series& series, uint64_t from, uint64_t to) {
    if (to > from) series.Add(static_cast<double>(to - from));
  };
  add(prompt_tokens_, before.prompt_tokens, counts.prompt_tokens);
  add(prefix_hit_tokens_, before.prefix_hit_tokens, counts.prefix_hit_tokens);
  add(preemptions_, before.preemptions, counts.preemptions);
  add(At(wasted_, WasteLabel::kPreempted), before.recomputed_tokens, counts.recomputed_tokens);
}

}  // namespace phi::service
