#include "shard/partition.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "kernels/base/check.h"

namespace phi::shard {

Range PartitionUnits(int64_t count, int64_t unit, int rank, int world_size) {
  PHI_CHECK(count >= 0 && unit >= 1 && rank >= 0 && rank < world_size,
            "%lld items, rank %d of %d",
            static_cast<long long>(count),
            rank,
            world_size);
  const int64_t num_units = (count + unit - 1) / unit;
  const int64_t share = num_units / world_size;
  const int64_t larger_shares = num_units % world_size;
  const int64_t first = rank * share + std::min<int64_t>(rank, larger_shares);
  const int64_t last = first + share + (rank < larger_shares ? 1 : 0);
  return {.begin = std::min(first * unit, count), .end = std::min(last * unit, count)};
}

absl::StatusOr<RankPartition> PartitionModel(const ModelConfig& config, int rank, int world_size) {
  if (world_size < 1 || world_size > config.num_key_value_heads) {
    return absl::InvalidArgumentError(
        absl::StrFormat("tensor parallelism over %d ranks: this model takes 1 to %d, the number of "
                        "its key-value heads",
                        world_size,
                        config.num_key_value_heads));
  }
  if (rank < 0 || rank >= world_size) {
    return absl::InvalidArgumentError(
        absl::StrFormat("rank %d is not one of %d ranks", rank, world_size));
  }
  const int64_t group = config.num_heads / config.num_key_value_heads;
  const Range key_value_heads = PartitionUnits(config.num_key_value_heads, 1, rank, world_size);
  return RankPartition{
      .heads = {.begin = key_value_heads.begin * group, .end = key_value_heads.end * group},
      .key_value_heads = key_value_heads,
      .mlp_columns = PartitionUnits(config.intermediate_size, kPartitionUnit, rank, world_size),
      .vocab_rows = PartitionUnits(config.vocab_size, kPartitionUnit, rank, world_size),
  };
}

}  // namespace phi::shard
