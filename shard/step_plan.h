#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// What every rank does in one step: a value. The same plan on the same weights gives the same
// tokens (I1, I4).
namespace phi::shard {

// Most likely tokens that one row can be asked for.
inline constexpr uint32_t kTopLogprobsMax = 20;

// How rank 0 draws one token. Only rank 0 reads it.
struct SamplingParams {
  float temperature = 0.0F;  // 0 = greedy: the highest logit, the lowest id on a tie
  uint32_t top_k = 0;        // 0 = off
  float top_p = 1.0F;
  float min_p = 0.0F;
  uint64_t seed = 0;
  uint32_t sample_index = 0;  // which of the n samples: draws with (seed, sample_index, position)
  uint32_t num_top_logprobs = 0;  // most likely real tokens to report beside the chosen one
  bool want_logprobs = false;
  bool mask_eos = false;  // before min_new_tokens

  friend bool operator==(const SamplingParams&, const SamplingParams&) = default;
};

// `num_tokens` consecutive tokens of one sequence; they are StepPlan::token_ids in order.
struct PlannedSequence {
  uint32_t num_tokens = 0;
  uint32_t first_position = 0;
  // The KV blocks of positions 0 .. first_position + num_tokens - 1, kKvBlockTokens each.
  std::vector<uint32_t> block_ids = {};
  // Whether a token is drawn after this sequence's last row, and how.
  bool sample = false;
  SamplingParams sampling = {};

  friend bool operator==(const PlannedSequence&, const PlannedSequence&) = default;
};

struct StepPlan {
  uint64_t epoch = 0;
  uint64_t step = 0;  // counts up by one from 0 in each epoch; idle plans count too
  std::vector<uint32_t> token_ids = {};
  std::vector<PlannedSequence> sequences =
      {};  // empty: an idle plan, which only shows that the ranks are alive

  friend bool operator==(const StepPlan&, const StepPlan&) = default;
};

// The bounds that a plan is checked against before a rank acts on it.
struct PlanLimits {
  uint32_t vocab_size = 0;
  uint32_t max_positions = 0;
  uint32_t num_blocks = 0;
  uint32_t max_sequences = 0;
  uint32_t max_step_tokens = 0;
};

// Flat, versioned, little-endian encoding for the socket pairs between leader and ranks.
std::vector<std::byte> EncodeStepPlan(const StepPlan& plan);
// INVALID_ARGUMENT for anything but exactly one whole plan; allocates no more than a small multiple
// of `bytes`.
absl::StatusOr<StepPlan> DecodeStepPlan(std::span<const std::byte> bytes);
// Token ids, positions, block ids and counts within the limits; sequences cover token_ids exactly;
// block counts are exact.
absl::Status ValidateStepPlan(const StepPlan& plan, const PlanLimits& limits);

}  // namespace phi::shard
