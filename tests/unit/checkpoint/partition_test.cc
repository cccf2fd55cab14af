#include "shard/partition.h"

#include <gtest/gtest.h>

#include <vector>

namespace phi::shard {
namespace {

ModelConfig Shape(int32_t num_heads,
                  int32_t num_key_value_heads,
                  int32_t intermediate_size,
                  int32_t vocab_size) {
  ModelConfig config;
  config.num_heads = num_heads;
  config.num_key_value_heads = num_key_value_heads;
  config.intermediate_size = intermediate_size;
  config.vocab_size = vocab_size;
  return config;
}

std::vector<RankPartition> PartitionAll(const ModelConfig& config, int world_size) {
  std::vector<RankPartition> all;
  for (int rank = 0; rank < world_size; ++rank)
    all.push_back(PartitionModel(config, rank, world_size).value());
  return all;
}

// Ranges of ranks 0, 1, ... follow each other from 0 to `count`: every item is owned once. Borders
// lie between units, shares differ by one unit at most, and lower ranks have the larger ones.
void ExpectDealt(const std::vector<RankPartition>& ranks,
                 Range RankPartition::*member,
                 int64_t count,
                 int64_t unit) {
  int64_t next = 0;
  int64_t previous_units = INT64_MAX;
  const int64_t first_units = ((ranks.front().*member).size() + unit - 1) / unit;
  for (const RankPartition& rank : ranks) {
    const Range range = rank.*member;
    ASSERT_EQ(range.begin, next);
    ASSERT_LE(range.begin, range.end);
    next = range.end;
    if (range.end != count) {
      ASSERT_EQ(range.end % unit, 0);
    }
    const int64_t units = (range.size() + unit - 1) / unit;
    ASSERT_LE(units, previous_units);
    ASSERT_LE(first_units - units, 1);
    previous_units = units;
  }
  ASSERT_EQ(next, count);
}

TEST(PartitionTest, EveryHeadColumnAndRowIsOwnedOnceAtEveryWorldSize) {
  const int32_t sizes[] = {1, 15, 16, 17, 100, 144, 8192, 10240};
  for (const int32_t key_value_heads : {1, 2, 3, 5, 8, 32}) {
    for (const int32_t group : {1, 2, 7}) {
      for (const int32_t intermediate : sizes) {
        for (const int32_t vocab : {1, 257, 2048, 51200}) {
          const ModelConfig config =
              Shape(key_value_heads * group, key_value_heads, intermediate, vocab);
          for (int world_size = 1; world_size <= key_value_heads; ++world_size) {
            const auto ranks = PartitionAll(config, world_size);
            ExpectDealt(ranks, &RankPartition::key_value_heads, key_value_heads, 1);
            ExpectDealt(ranks, &RankPartition::heads, config.num_heads, group);
            ExpectDealt(ranks, &RankPartition::mlp_columns, intermediate, kPartitionUnit);
            ExpectDealt(ranks, &RankPartition::vocab_rows, vocab, kPartitionUnit);
            if (HasFatalFailure()) return;
            // A query head's key-value head is on its own rank.
            for (const RankPartition& rank : ranks) {
              ASSERT_GE(rank.heads.size(), 1);
              ASSERT_EQ(rank.heads.begin / group, rank.key_value_heads.begin);
              ASSERT_EQ((rank.heads.end - 1) / group, rank.key_value_heads.end - 1);
            }
          }
        }
      }
    }
  }
}

TEST(PartitionTest, UnevenSharesOfPhi1OnThreeRanks) {
  const auto ranks = PartitionAll(Shape(32, 32, 8192, 51200), 3);
  EXPECT_EQ(ranks[0].heads, (Range{0, 11}));
  EXPECT_EQ(ranks[1].heads, (Range{11, 22}));
  EXPECT_EQ(ranks[2].heads, (Range{22, 32}));
  EXPECT_EQ(ranks[0].mlp_columns, (Range{0, 171 * 16}));
  EXPECT_EQ(ranks[2].mlp_columns, (Range{342 * 16, 8192}));
  EXPECT_EQ(ranks[2].vocab_rows, (Range{2134 * 16, 51200}));
}

TEST(PartitionTest, FewerUnitsThanRanksLeaveTheLastOnesEmpty) {
  const auto ranks = PartitionAll(Shape(4, 4, 20, 10), 4);
  EXPECT_EQ(ranks[0].vocab_rows, (Range{0, 10}));
  for (int rank = 1; rank < 4; ++rank)
    EXPECT_EQ(ranks[static_cast<size_t>(rank)].vocab_rows.size(), 0);
  EXPECT_EQ(ranks[1].mlp_columns, (Range{16, 20}));
  EXPECT_EQ(ranks[3].mlp_columns.size(), 0);
}

TEST(PartitionTest, RefusesWorldsThatTheModelDoesNotFillAndRanksOutsideOfThem) {
  const ModelConfig config = Shape(8, 4, 64, 64);
  EXPECT_TRUE(PartitionModel(config, 3, 4).ok());
  for (const auto& [rank, world_size] :
       {std::pair(0, 0), {0, -1}, {0, 5}, {-1, 2}, {2, 2}, {0, 2147483647}}) {
    EXPECT_EQ(PartitionModel(config, rank, world_size).status().code(),
              absl::StatusCode::kInvalidArgument)
        << rank << " of " << world_size;
  }
}

}  // namespace
}  // namespace phi::shard
