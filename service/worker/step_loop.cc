#include "service/worker/step_loop.h"

#include <algorithm>
#include <utility>

#include "absl/time/time.h"
#include "kernels/backend.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"
#include "service/api/error.h"

namespace phi::service {
namespace {

constexpr auto kLeastDeadlineMargin = std::chrono::milliseconds(20);
// Beside decodes, prompts may make a step that much longer than a decode, and at least this long:
// below it a reader of the stream sees no difference. Source: the stall-free batches of
// Sarathi-Serve (OSDI 2024).
constexpr double kMixedStepFactor = 4;
constexpr double kMixedStepSeconds = 0.05;
constexpr uint32_t kMixedChunkMin = 16;
constexpr uint32_t kMixedChunkMax = 256;
constexpr uint32_t kWarmUpTokens = 32;

SteadyTime Now() { return std::chrono::steady_clock::now(); }

SteadyDuration ToSteady(double seconds) {
  return std::chrono::duration_cast<SteadyDuration>(std::chrono::duration<double>(seconds));
}

// How many tokens fit `seconds`, `low` to `high`.
uint32_t TokensIn(double seconds, double seconds_per_token, uint32_t low, uint32_t high) {
  const double tokens = seconds / std::max(seconds_per_token, 1e-9);
  return static_cast<uint32_t>(
      std::clamp(tokens, static_cast<double>(low), static_cast<double>(high)));
}

void AddWaiting(const EngineRequest& request, std::unordered_map<std::string, Waiting>& waiting) {
  Waiting& own = waiting[request.caller];
  ++own.requests;
  own.tokens += static_cast<uint32_t>(request.prompt.size());
}

}  // namespace

StepLoop::StepLoop(const StepLoopOptions& options,
                   shard::Rank* rank,
                   Broadcast broadcast,
                   const LeaderMetrics* metrics)
    : options_(options),
      rank_(rank),
      broadcast_(std::move(broadcast)),
      metrics_(metrics),
      scheduler_(options.limits,
                 {.alone = options.limits.max_step_tokens, .beside_decodes = kMixedChunkMax}) {
  load_.kv = scheduler_.kv_counts();
  load_.deadline_margin = kLeastDeadlineMargin;
  scheduler_.SetDeadlineMargin(kLeastDeadlineMargin);
}

StepLoop::~StepLoop() {
  {
    absl::MutexLock lock(&mutex_);
    inbox_.stop = true;
    mail_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

absl::StatusOr<double> StepLoop::TimeWarmUpStep(uint32_t num_tokens, uint32_t first_position) {
  shard::StepPlan plan;
  plan.token_ids.assign(num_tokens, 0);
  shard::PlannedSequence sequence;
  sequence.num_tokens = num_tokens;
  sequence.first_position = first_position;
  sequence.num_draws = 1;
  const uint32_t end = first_position + num_tokens;
  for (uint32_t block = 0; block * kernels::kKvBlockTokens < end; ++block)
    sequence.block_ids.push_back(block);
  plan.sequences.push_back(std::move(sequence));
  const SteadyTime start = Now();
  PHI_RETURN_IF_ERROR(Execute(plan).status());
  return Seconds(Now() - start);
}

absl::Status StepLoop::WarmUp() {
  PHI_CHECK(!thread_.joinable(), "warm-up after Start");
  const SchedulerLimits& limits = options_.limits;
  const uint32_t num_tokens =
      std::min({kWarmUpTokens,
                limits.max_step_tokens,
                limits.context_tokens - 1,
                limits.num_kv_blocks * static_cast<uint32_t>(kernels::kKvBlockTokens) - 1});
  // The first step touches cold memory, so it is not the one that counts.
  PHI_RETURN_IF_ERROR(TimeWarmUpStep(1, 0).status());
  PHI_ASSIGN_OR_RETURN(const double prefill_seconds, TimeWarmUpStep(num_tokens, 0));
  PHI_ASSIGN_OR_RETURN(const double decode_seconds, TimeWarmUpStep(1, num_tokens));
  const double seconds_per_token = prefill_seconds / num_tokens;
  chunks_.alone =
      TokensIn(Seconds(options_.stall_limit) / 4, seconds_per_token, 1, limits.max_step_tokens);
  const double mixed_seconds = std::max(kMixedStepSeconds, kMixedStepFactor * decode_seconds);
  chunks_.beside_decodes = std::min(
      chunks_.alone, TokensIn(mixed_seconds, seconds_per_token, kMixedChunkMin, kMixedChunkMax));
  scheduler_.SetChunkLimits(chunks_);
  NoteStepSeconds(decode_seconds);
  PublishLoad();
  return absl::OkStatus();
}

void StepLoop::Start() {
  thread_ = std::thread([this] { Run(); });
}

absl::Status StepLoop::Submit(EngineRequest request, std::shared_ptr<TokenSink> sink) {
  absl::MutexLock lock(&mutex_);
  if (inbox_.draining)
    return MakeError(ErrorReason::kDraining, "this replica ends and takes no new requests");
  if (closed_ || inbox_.stop) return MakeError(ErrorReason::kReplicaLost, "the replica was lost");
  Occupancy occupancy = load_.occupancy;
  occupancy.waiting_requests += static_cast<uint32_t>(inbox_.arrivals.size());
  occupancy.waiting_tokens += inbox_tokens_;
  const auto own = waiting_.find(request.caller);
  PHI_RETURN_IF_ERROR(CheckAdmission(
      request, options_.limits, occupancy, own == waiting_.end() ? Waiting() : own->second));
  AddWaiting(request, waiting_);
  inbox_tokens_ += static_cast<uint32_t>(request.prompt.size());
  inbox_.arrivals.push_back({std::move(request), std::move(sink)});
  mail_.NotifyAll();
  return absl::OkStatus();
}

void StepLoop::Cancel(uint64_t request_id) {
  absl::MutexLock lock(&mutex_);
  if (!closed_) inbox_.cancellations.push_back(request_id);
  mail_.NotifyAll();
}

void StepLoop::EndSample(uint64_t request_id, uint32_t sample, FinishReason reason) {
  absl::MutexLock lock(&mutex_);
  if (!closed_) inbox_.ended_samples.push_back({request_id, sample, reason});
  mail_.NotifyAll();
}

void StepLoop::Drain(SteadyTime deadline) {
  absl::MutexLock lock(&mutex_);
  if (inbox_.draining) return;
  inbox_.draining = true;
  inbox_.drain_deadline = deadline;
  load_.draining = true;
  mail_.NotifyAll();
}

absl::Status StepLoop::Wait() {
  absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(&closed_));
  return outcome_;
}

EngineLoad StepLoop::load() const {
  absl::MutexLock lock(&mutex_);
  EngineLoad load = load_;
  load.occupancy.waiting_requests += static_cast<uint32_t>(inbox_.arrivals.size());
  load.occupancy.waiting_tokens += inbox_tokens_;
  return load;
}

void StepLoop::Run() {
  absl::Status lost;
  for (;;) {
    Inbox inbox = TakeInbox();
    const SteadyTime now = Now();
    TakeArrivals(inbox, now);
    if (inbox.stop) {
      lost = absl::CancelledError("stopped");
      break;
    }
    if (!FollowDrain(inbox, now)) return Close(absl::OkStatus(), absl::OkStatus());
    Deliver(scheduler_.Expire(now));
    if (lost = RunStep(); !lost.ok()) break;
    PublishLoad();
  }
  Close(lost, MakeError(ErrorReason::kReplicaLost, "the replica was lost"));
}

StepLoop::Inbox StepLoop::TakeInbox() {
  const auto has_mail = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return inbox_.stop || !inbox_.arrivals.empty() || !inbox_.cancellations.empty() ||
           !inbox_.ended_samples.empty() || inbox_.draining;
  };
  absl::MutexLock lock(&mutex_);
  if (scheduler_.empty()) {
    mail_.WaitUntil(mutex_, After(SteadyNow(), options_.idle_interval), has_mail);
  }
  Inbox taken;
  taken.arrivals.swap(inbox_.arrivals);
  taken.cancellations.swap(inbox_.cancellations);
  taken.ended_samples.swap(inbox_.ended_samples);
  taken.stop = inbox_.stop;
  taken.draining = inbox_.draining;
  taken.drain_deadline = inbox_.drain_deadline;
  // From here on the scheduler counts them: nobody may see them in neither place.
  for (const Arrival& arrival : taken.arrivals) {
    ++load_.occupancy.waiting_requests;
    load_.occupancy.waiting_tokens += static_cast<uint32_t>(arrival.request.prompt.size());
  }
  inbox_tokens_ = 0;
  return taken;
}

void StepLoop::TakeArrivals(Inbox& inbox, SteadyTime now) {
  for (Arrival& arrival : inbox.arrivals) {
    const uint64_t id = arrival.request.id;
    const absl::Status admitted = scheduler_.Submit(std::move(arrival.request));
    if (!admitted.ok()) {
      arrival.sink->OnEnd(RequestEnd{.status = admitted, .times = {.arrival = now}, .ended = now});
      continue;
    }
    sinks_.emplace(id, std::move(arrival.sink));
  }
  for (uint64_t id : inbox.cancellations) {
    if (auto event = scheduler_.Cancel(id, now)) Deliver({*std::move(event)});
  }
  for (const EndedSample& ended : inbox.ended_samples) {
    if (auto event = scheduler_.EndSample(ended.request_id, ended.sample, ended.reason, now))
      Deliver({*std::move(event)});
  }
}

bool StepLoop::FollowDrain(const Inbox& inbox, SteadyTime now) {
  if (!inbox.draining) return true;
  if (!waiting_failed_) {
    waiting_failed_ = true;
    Deliver(scheduler_.FailWaiting(MakeError(ErrorReason::kDraining, "this replica ends"), now));
  }
  if (now >= inbox.drain_deadline) {
    Deliver(
        scheduler_.FailAll(MakeError(ErrorReason::kDrainTimeout, "this replica had to end"), now));
  }
  return !scheduler_.empty();
}

absl::StatusOr<shard::StepResult> StepLoop::Execute(shard::StepPlan& plan) {
  plan.epoch = options_.epoch;
  plan.step = next_step_++;
  PHI_RETURN_IF_ERROR(broadcast_(plan));
  return rank_->Execute(plan);
}

absl::Status StepLoop::RunStep() {
  const SteadyTime start = Now();
  StepWork work = scheduler_.Plan(start);
  PHI_ASSIGN_OR_RETURN(const shard::StepResult result, Execute(work.plan));
  if (work.idle()) return absl::OkStatus();
  const SteadyTime end = Now();
  NoteStepSeconds(Seconds(end - start));
  metrics_->OnStep(work, Seconds(end - start));
  PHI_ASSIGN_OR_RETURN(const std::vector<RequestEvent> events,
                       scheduler_.Commit(work, result, end));
  metrics_->OnCounts(told_counts_, scheduler_.counts());
  told_counts_ = scheduler_.counts();
  Deliver(events);
  return absl::OkStatus();
}

void StepLoop::NoteStepSeconds(double seconds) {
  constexpr double kNewest = 0.25;
  recent_step_seconds_ = recent_step_seconds_ == 0
                             ? seconds
                             : (1 - kNewest) * recent_step_seconds_ + kNewest * seconds;
  scheduler_.SetDeadlineMargin(
      std::max<SteadyDuration>(kLeastDeadlineMargin, ToSteady(2 * recent_step_seconds_)));
}

void StepLoop::Deliver(const std::vector<RequestEvent>& events) {
  for (const RequestEvent& event : events) {
    const auto found = sinks_.find(event.request_id);
    PHI_CHECK(found != sinks_.end(),
              "request %llu has no sink",
              static_cast<unsigned long long>(event.request_id));
    if (event.token) {
      metrics_->OnToken(event.sample, event.times);
      found->second->OnToken(event.sample, *event.token, event.times);
    }
    if (event.sample_end) found->second->OnSampleEnd(event.sample, *event.sample_end);
    if (event.end) {
      metrics_->OnEnd(*event.end);
      found->second->OnEnd(*event.end);
      sinks_.erase(found);
    }
  }
}

void StepLoop::PublishLoad() {
  const Occupancy occupancy = scheduler_.occupancy();
  const KvBlockPool::Counts kv = scheduler_.kv_counts();
  auto waiting = scheduler_.waiting_by_caller();
  metrics_->OnLoad(occupancy, kv);
  const auto margin =
      std::max<SteadyDuration>(kLeastDeadlineMargin, ToSteady(2 * recent_step_seconds_));
  absl::MutexLock lock(&mutex_);
  load_.occupancy = occupancy;
  load_.kv = kv;
  load_.deadline_margin = margin;
  for (const Arrival& arrival : inbox_.arrivals) AddWaiting(arrival.request, waiting);
  waiting_ = std::move(waiting);
}

void StepLoop::Close(const absl::Status& status, const absl::Status& request_status) {
  Inbox rest;
  {
    absl::MutexLock lock(&mutex_);
    rest.arrivals.swap(inbox_.arrivals);
    inbox_.stop = true;  // Submit refuses from here on
  }
  const SteadyTime now = Now();
  // A drained loop's last arrivals came before Drain() and are sent elsewhere like the rest of its
  // queue.
  const absl::Status end_status =
      request_status.ok() ? MakeError(ErrorReason::kDraining, "this replica ends") : request_status;
  TakeArrivals(rest, now);
  Deliver(scheduler_.FailAll(end_status, now));
  PublishLoad();
  absl::MutexLock lock(&mutex_);
  outcome_ = status;
  closed_ = true;
}

}  // namespace phi::service
