#include "shard/rank.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "kernels/base/check.h"
#include "kernels/base/failpoint.h"
#include "kernels/base/status_macros.h"
#include "shard/checkpoint/safetensors.h"
#include "shard/kv_cache.h"
#include "shard/logits_gatherer.h"
#include "shard/partition.h"
#include "shard/phi_model.h"
#include "shard/phi_weights.h"
#include "shard/plan_channel.h"
#include "shard/progress_communicator.h"
#include "shard/sampling/sampler.h"
#include "shard/step_rows.h"

namespace phi::shard {
namespace {

using Clock = std::chrono::steady_clock;

KvCache::Shape CacheShape(const ModelConfig& config,
                          const RankPartition& partition,
                          const RankLimits& limits) {
  return {.attention = LocalAttentionShape(config, partition),
          .num_layers = config.num_layers,
          .num_blocks = limits.num_kv_blocks};
}

StepRowLimits RowLimits(const RankLimits& limits) {
  return {.rows = limits.max_step_tokens, .logits_rows = limits.max_sequences};
}

PlanLimits LimitsOfPlans(const RankLimits& limits, const ModelConfig& config) {
  return {.vocab_size = static_cast<uint32_t>(config.vocab_size),
          .max_positions = static_cast<uint32_t>(config.max_positions),
          .num_blocks = limits.num_kv_blocks,
          .max_sequences = limits.max_sequences,
          .max_step_tokens = limits.max_step_tokens};
}

absl::Status CheckOptions(const RankOptions& options, const ModelConfig& config) {
  if (options.num_real_tokens < 1 ||
      options.num_real_tokens > static_cast<uint32_t>(config.vocab_size)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("a tokenizer of %u ids for a model of vocab_size %d",
                        options.num_real_tokens,
                        config.vocab_size));
  }
  const RankLimits& limits = options.limits;
  if (limits.max_sequences < 1 || limits.max_step_tokens < 1 || limits.num_kv_blocks < 1) {
    return absl::InvalidArgumentError(
        absl::StrFormat("max_sequences %u, max_step_tokens %u, num_kv_blocks %u: at least 1 each",
                        limits.max_sequences,
                        limits.max_step_tokens,
                        limits.num_kv_blocks));
  }
  const size_t plan_bytes = MaxStepPlanBytes(LimitsOfPlans(limits, config));
  if (plan_bytes > kMaxPlanBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("step plans of max_sequences %u and context %d take up to %d bytes, at "
                        "most %d; lower max_sequences",
                        limits.max_sequences,
                        config.max_positions,
                        plan_bytes,
                        kMaxPlanBytes));
  }
  return absl::OkStatus();
}

// The candidates of each row that all draws of the step depend on; 0: whole rows. No rank needs to
// be told: all have the plan.
uint32_t CandidatesOfStep(const StepPlan& plan) {
  uint32_t most = 0;
  for (const PlannedSequence& sequence : plan.sequences) {
    if (sequence.num_draws == 0) continue;
    const uint32_t needed = CandidatesNeeded(sequence.sampling);
    if (needed == 0) return 0;
    most = std::max(most, needed);
  }
  return most;
}

class PhiRank final : public Rank {
 public:
  struct Parts {
    RankOptions options;
    ModelConfig config;
    RankPartition partition;
    std::unique_ptr<kernels::Backend> backend;
    std::unique_ptr<Communicator> communicator;
    RankProgress* progress = nullptr;
  };

  explicit PhiRank(Parts parts)
      : parts_(std::move(parts)),
        memory_(PlanMemory(parts_.config,
                           *parts_.backend,
                           parts_.options.limits,
                           parts_.communicator->rank(),
                           parts_.communicator->world_size())),
        rows_(parts_.options.limits.max_sequences,
              parts_.options.limits.max_step_tokens,
              static_cast<uint32_t>(parts_.config.max_positions)) {}

  // Takes all memory.
  absl::Status Load();

  absl::StatusOr<StepResult> Execute(const StepPlan& plan) override {
    PHI_RETURN_IF_ERROR(lost_);
    absl::StatusOr<StepResult> result = NotedStep(plan);
    lost_ = result.status();
    return result;
  }

  const ModelConfig& config() const override { return parts_.config; }
  const MemoryPlan& memory() const override { return memory_; }
  const CollectiveStats& collective_stats() const override { return parts_.communicator->stats(); }
  std::string Description() const override {
    return absl::StrFormat("rank %d of %d, %s, %s",
                           parts_.communicator->rank(),
                           parts_.communicator->world_size(),
                           parts_.backend->Description(),
                           std::string(kernels::DTypeName(parts_.backend->dtype())));
  }

 private:
  absl::StatusOr<StepResult> NotedStep(const StepPlan& plan);
  absl::Status CheckPlan(const StepPlan& plan) const;
  absl::StatusOr<std::vector<SampledToken>> RunStep(const StepPlan& plan);
  absl::StatusOr<std::vector<SampledToken>> DrawTokens(const StepPlan& plan, bool from_candidates);
  // After row `row` of those with logits.
  absl::StatusOr<std::vector<SampledToken>> DrawFromRow(const PlannedSequence& sequence,
                                                        size_t row);
  absl::StatusOr<std::vector<SampledToken>> DrawFromCandidates(const PlannedSequence& sequence,
                                                               size_t row);
  // Writes to the progress that a step began or ended.
  void Note(RankProgress::Activity activity, std::atomic<uint64_t>& counter);

  const Parts parts_;
  const MemoryPlan memory_;
  StepRows rows_;
  std::unique_ptr<PhiModel> model_;
  std::optional<LogitsGatherer> gatherer_;
  std::optional<Sampler> sampler_;  // on rank 0
  std::optional<uint64_t> epoch_;   // of the first plan
  uint64_t next_step_ = 0;
  absl::Status lost_;
};

absl::Status PhiRank::Load() {
  const ModelConfig& config = parts_.config;
  const RankOptions& options = parts_.options;
  kernels::Backend& backend = *parts_.backend;
  PHI_ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(options.model_dir));
  PHI_ASSIGN_OR_RETURN(
      PhiWeights weights,
      LoadPhiWeights(
          checkpoint, config, parts_.partition, backend, {.verify = options.verify_weights}));
  PHI_ASSIGN_OR_RETURN(
      KvCache cache,
      KvCache::Create(CacheShape(config, parts_.partition, options.limits), backend));
  PHI_ASSIGN_OR_RETURN(model_,
                       PhiModel::Create({.config = config,
                                         .partition = parts_.partition,
                                         .limits = RowLimits(options.limits),
                                         .weights = std::move(weights),
                                         .kv_cache = std::move(cache),
                                         .backend = &backend,
                                         .communicator = parts_.communicator.get()}));
  PHI_ASSIGN_OR_RETURN(gatherer_,
                       LogitsGatherer::Create(config,
                                              {.max_rows = options.limits.max_sequences,
                                               .num_real_tokens = options.num_real_tokens},
                                              backend,
                                              *parts_.communicator));
  if (parts_.communicator->rank() == 0) {
    sampler_.emplace(
        static_cast<uint32_t>(config.vocab_size), options.num_real_tokens, options.eos_token_id);
  }
  parts_.progress->activity = RankProgress::kIdle;
  return absl::OkStatus();
}

absl::StatusOr<StepResult> PhiRank::NotedStep(const StepPlan& plan) {
  PHI_RETURN_IF_ERROR(CheckPlan(plan));
  epoch_ = plan.epoch;
  next_step_ = plan.step + 1;

  parts_.progress->collective_index = 0;
  Note(RankProgress::kComputing, parts_.progress->steps_started);
  StepResult result;
  if (!plan.sequences.empty()) {
    PHI_ASSIGN_OR_RETURN(result.tokens, RunStep(plan));
  }
  Note(RankProgress::kIdle, parts_.progress->steps_finished);
  return result;
}

// I4: all ranks execute the same plans in the same order, so a plan that skips, repeats or crosses
// epochs is refused.
absl::Status PhiRank::CheckPlan(const StepPlan& plan) const {
  if (plan.step != next_step_ || plan.epoch != epoch_.value_or(plan.epoch)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("plan of epoch %d, step %d, after which rank %d expects step %d "
                        "of epoch %d",
                        plan.epoch,
                        plan.step,
                        parts_.communicator->rank(),
                        next_step_,
                        epoch_.value_or(plan.epoch)));
  }
  return ValidateStepPlan(plan, LimitsOfPlans(parts_.options.limits, parts_.config));
}

absl::StatusOr<std::vector<SampledToken>> PhiRank::RunStep(const StepPlan& plan) {
  PHI_RETURN_IF_ERROR(
      PHI_FAILPOINT(absl::StrFormat("rank%d.before_step", parts_.communicator->rank())));
  const kernels::StepBatch batch = rows_.Fill(plan);
  PHI_RETURN_IF_ERROR(model_->Forward(batch));
  const size_t num_rows = batch.logits_rows.size();
  const uint32_t num_candidates = CandidatesOfStep(plan);
  PHI_RETURN_IF_ERROR(num_candidates > 0 ? gatherer_->GatherCandidates(
                                               model_->local_logits(), num_rows, num_candidates)
                                         : gatherer_->Gather(model_->local_logits(), num_rows));
  if (!sampler_.has_value()) return std::vector<SampledToken>();
  return DrawTokens(plan, num_candidates > 0);
}

absl::StatusOr<std::vector<SampledToken>> PhiRank::DrawTokens(const StepPlan& plan,
                                                              bool from_candidates) {
  std::vector<SampledToken> tokens;
  size_t row = 0;
  for (uint32_t index = 0; index < plan.sequences.size(); ++index) {
    const PlannedSequence& sequence = plan.sequences[index];
    if (sequence.num_draws == 0) continue;
    PHI_ASSIGN_OR_RETURN(
        std::vector<SampledToken> drawn,
        from_candidates ? DrawFromCandidates(sequence, row) : DrawFromRow(sequence, row));
    ++row;
    for (SampledToken& token : drawn) {
      token.sequence_index = index;
      tokens.push_back(std::move(token));
    }
  }
  return tokens;
}

absl::StatusOr<std::vector<SampledToken>> PhiRank::DrawFromRow(const PlannedSequence& sequence,
                                                               size_t row) {
  PHI_ASSIGN_OR_RETURN(const std::span<float> logits, gatherer_->Row(row));
  if (PHI_FAILPOINT_NAN("rank.logits")) logits[0] = std::numeric_limits<float>::quiet_NaN();
  return sampler_->Sample({.logits = logits,
                           .position = sequence.first_position + sequence.num_tokens,
                           .history = sequence.history,
                           .num_prompt_tokens = sequence.num_prompt_tokens},
                          sequence.sampling,
                          sequence.num_draws);
}

absl::StatusOr<std::vector<SampledToken>> PhiRank::DrawFromCandidates(
    const PlannedSequence& sequence, size_t row) {
  const std::span<kernels::Candidate> candidates = gatherer_->Candidates(row);
  if (PHI_FAILPOINT_NAN("rank.logits"))
    candidates[0].logit = std::numeric_limits<float>::quiet_NaN();
  return sampler_->SampleCandidates(candidates,
                                    sequence.first_position + sequence.num_tokens,
                                    sequence.sampling,
                                    sequence.num_draws);
}

void PhiRank::Note(RankProgress::Activity activity, std::atomic<uint64_t>& counter) {
  parts_.progress->activity = activity;
  // steady_clock is CLOCK_MONOTONIC, whose epoch all processes share. The time goes first: a reader
  // that sees the new count must not take the old time for its.
  parts_.progress->last_change_ns =
      std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch()).count();
  counter.fetch_add(1);
}

}  // namespace

MemoryPlan PlanMemory(const ModelConfig& config,
                      const kernels::MemoryLayout& layout,
                      const RankLimits& limits,
                      int rank,
                      int world_size) {
  const absl::StatusOr<RankPartition> partition = PartitionModel(config, rank, world_size);
  PHI_CHECK(partition.ok(), "rank %d of %d", rank, world_size);
  return {.weights = PhiWeightsBytes(config, *partition, layout),
          .kv_cache = KvCache::Bytes(CacheShape(config, *partition, limits), layout),
          .activations = PhiModel::ActivationBytes(config, *partition, RowLimits(limits), layout) +
                         LogitsGatherer::Bytes(config, limits.max_sequences, rank, world_size)};
}

absl::StatusOr<std::unique_ptr<Rank>> Rank::Create(const RankOptions& options,
                                                   std::unique_ptr<kernels::Backend> backend,
                                                   std::unique_ptr<Communicator> communicator,
                                                   RankProgress* progress) {
  PHI_ASSIGN_OR_RETURN(const ModelConfig config, ReadModelConfig(options.model_dir));
  PHI_RETURN_IF_ERROR(CheckOptions(options, config));
  PHI_ASSIGN_OR_RETURN(const RankPartition partition,
                       PartitionModel(config, communicator->rank(), communicator->world_size()));
  auto rank = std::make_unique<PhiRank>(
      PhiRank::Parts{.options = options,
                     .config = config,
                     .partition = partition,
                     .backend = std::move(backend),
                     .communicator = MakeProgressCommunicator(std::move(communicator), progress),
                     .progress = progress});
  PHI_RETURN_IF_ERROR(rank->Load());
  return rank;
}

}  // namespace phi::shard
