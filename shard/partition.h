#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "shard/checkpoint/model_config.h"

// Which heads, MLP columns and vocabulary rows a rank owns. Pure arithmetic.
namespace phi::shard {

// Half-open [begin, end).
struct Range {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }

  friend bool operator==(const Range&, const Range&) = default;
};

// MLP columns and vocabulary rows are dealt in units of this many; the last unit may be shorter.
inline constexpr int64_t kPartitionUnit = 16;

// One rank's share; all ranges are in global indices.
struct RankPartition {
  Range heads;  // query heads: those of `key_value_heads`, so that a group stays together
  Range key_value_heads;
  Range mlp_columns;  // of intermediate_size; may be empty only where there are fewer units than
                      // ranks
  Range vocab_rows;   // of vocab_size; may be empty only where there are fewer units than ranks

  friend bool operator==(const RankPartition&, const RankPartition&) = default;
};

// Deals `count` items in whole units to world_size ranks: the first (units mod world_size) ranks
// get one unit more.
Range PartitionUnits(int64_t count, int64_t unit, int rank, int world_size);

// INVALID_ARGUMENT where world_size is not within 1 .. num_key_value_heads, or rank not below it.
absl::StatusOr<RankPartition> PartitionModel(const ModelConfig& config, int rank, int world_size);

}  // namespace phi::shard
