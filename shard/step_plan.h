#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "shard/sampling/sampling_params.h"

// What every rank does in one step: a value. The same plan on the same weights gives the same
// tokens (I1, I4).
namespace phi::shard {

// Samples that one prompt can be answered with, and so tokens drawn after one row.
inline constexpr uint32_t kMaxDraws = 16;

// `num_tokens` consecutive tokens of one sequence; they are StepPlan::token_ids in order.
struct PlannedSequence {
  uint32_t num_tokens = 0;
  uint32_t first_position = 0;
  // The KV blocks of positions 0 .. first_position + num_tokens - 1, kKvBlockTokens each.
  std::vector<uint32_t> block_ids = {};
  // How many tokens are drawn after this sequence's last row, and how: draw i with sample_index
  // sampling.sample_index + i.
  uint32_t num_draws = 0;
  SamplingParams sampling = {};
  // The sequence's tokens at positions 0 .. first_position + num_tokens - 1, of which the first
  // num_prompt_tokens are its prompt: where tokens are drawn with penalties, and empty elsewhere.
  std::vector<uint32_t> history = {};
  uint32_t num_prompt_tokens = 0;

  friend bool operator==(const PlannedSequence&, const PlannedSequence&) = default;
};

// Ids of KV blocks: `to` becomes a copy of `from`, in all layers, keys and values.
struct BlockCopy {
  uint32_t from = 0;
  uint32_t to = 0;

  friend bool operator==(const BlockCopy&, const BlockCopy&) = default;
};

struct StepPlan {
  uint64_t epoch = 0;
  uint64_t step = 0;  // counts up by one from 0 in each epoch; idle plans count too
  std::vector<uint32_t> token_ids = {};
  std::vector<PlannedSequence> sequences =
      {};  // empty: an idle plan, which only shows that the ranks are alive
  // Carried out before anything else of the step, so that samples that share blocks part before
  // one of them writes (copy-on-write).
  std::vector<BlockCopy> block_copies = {};

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
// What the largest plan within the limits is encoded to, in bytes.
size_t MaxStepPlanBytes(const PlanLimits& limits);
// INVALID_ARGUMENT for anything but exactly one whole plan; allocates no more than a small multiple
// of `bytes`.
absl::StatusOr<StepPlan> DecodeStepPlan(std::span<const std::byte> bytes);
// Token ids, positions, block ids, parameters and counts within the limits; sequences cover
// token_ids exactly; counts of blocks and of history are exact. Block copies: at most one a
// sequence, no block is written twice or read where another copy writes, and none in an idle plan.
absl::Status ValidateStepPlan(const StepPlan& plan, const PlanLimits& limits);

}  // namespace phi::shard
