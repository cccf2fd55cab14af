#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "kernels/backend.h"
#include "kernels/base/status_macros.h"
#include "shard/step_plan.h"

namespace phi::shard {
namespace {

absl::Status CheckTokenIds(std::span<const uint32_t> token_ids, const PlanLimits& limits) {
  for (const uint32_t token_id : token_ids) {
    if (token_id >= limits.vocab_size) {
      return absl::InvalidArgumentError(
          absl::StrFormat("token id %u of %u", token_id, limits.vocab_size));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckBlockId(uint32_t block_id, const PlanLimits& limits) {
  if (block_id < limits.num_blocks) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("KV block %u of %u", block_id, limits.num_blocks));
}

absl::Status CheckDraws(const PlannedSequence& sequence, const PlanLimits& limits) {
  const uint64_t sample_end = uint64_t{sequence.sampling.sample_index} + sequence.num_draws;
  if (sample_end > kMaxDraws) {
    return absl::InvalidArgumentError(absl::StrFormat("%u draws from sample %u on; at most %u",
                                                      sequence.num_draws,
                                                      sequence.sampling.sample_index,
                                                      kMaxDraws));
  }
  const bool wants_history = sequence.num_draws > 0 && HasPenalties(sequence.sampling);
  const uint64_t history_size =
      wants_history ? uint64_t{sequence.first_position} + sequence.num_tokens : 0;
  if (sequence.history.size() != history_size || sequence.num_prompt_tokens > history_size) {
    return absl::InvalidArgumentError(
        absl::StrFormat("history of %d tokens, %u of the prompt, where there are %d",
                        sequence.history.size(),
                        sequence.num_prompt_tokens,
                        history_size));
  }
  return CheckTokenIds(sequence.history, limits);
}

absl::Status CheckSequence(const PlannedSequence& sequence, const PlanLimits& limits) {
  const uint64_t end = uint64_t{sequence.first_position} + sequence.num_tokens;
  if (sequence.num_tokens == 0 || end > limits.max_positions) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%u tokens from position %u: at least one, within %u positions",
                        sequence.num_tokens,
                        sequence.first_position,
                        limits.max_positions));
  }
  const uint64_t blocks_needed = kernels::NumKvBlocks(end);
  if (sequence.block_ids.size() != blocks_needed) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%d KV blocks for %d positions, which take %d",
                        sequence.block_ids.size(),
                        end,
                        blocks_needed));
  }
  for (const uint32_t block_id : sequence.block_ids)
    PHI_RETURN_IF_ERROR(CheckBlockId(block_id, limits));
  PHI_RETURN_IF_ERROR(CheckSamplingParams(sequence.sampling, limits.vocab_size));
  return CheckDraws(sequence, limits);
}

absl::Status CheckBlockCopies(const StepPlan& plan, const PlanLimits& limits) {
  const size_t max_copies = plan.sequences.empty() ? 0 : limits.max_sequences;
  if (plan.block_copies.size() > max_copies) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%d block copies beside %d sequences", plan.block_copies.size(), plan.sequences.size()));
  }
  std::vector<uint32_t> written;
  for (const BlockCopy& copy : plan.block_copies) {
    PHI_RETURN_IF_ERROR(CheckBlockId(copy.from, limits));
    PHI_RETURN_IF_ERROR(CheckBlockId(copy.to, limits));
    written.push_back(copy.to);
  }
  std::sort(written.begin(), written.end());
  if (std::adjacent_find(written.begin(), written.end()) != written.end())
    return absl::InvalidArgumentError("two copies write one KV block");
  for (const BlockCopy& copy : plan.block_copies) {
    if (std::binary_search(written.begin(), written.end(), copy.from)) {
      return absl::InvalidArgumentError(
          absl::StrFormat("KV block %u is copied and copied to", copy.from));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidateStepPlan(const StepPlan& plan, const PlanLimits& limits) {
  if (plan.sequences.size() > limits.max_sequences ||
      plan.token_ids.size() > limits.max_step_tokens) {
    return absl::InvalidArgumentError(
        absl::StrFormat("step of %d sequences and %d tokens; at most %u and %u",
                        plan.sequences.size(),
                        plan.token_ids.size(),
                        limits.max_sequences,
                        limits.max_step_tokens));
  }
  uint64_t num_tokens = 0;
  for (size_t i = 0; i < plan.sequences.size(); ++i) {
    if (absl::Status status = CheckSequence(plan.sequences[i], limits); !status.ok()) {
      return absl::InvalidArgumentError(
          absl::StrFormat("step plan, sequence %d: %s", i, std::string(status.message())));
    }
    num_tokens += plan.sequences[i].num_tokens;
  }
  if (num_tokens != plan.token_ids.size()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "sequences of %d tokens over %d token ids", num_tokens, plan.token_ids.size()));
  }
  PHI_RETURN_IF_ERROR(CheckTokenIds(plan.token_ids, limits));
  return CheckBlockCopies(plan, limits);
}

}  // namespace phi::shard
