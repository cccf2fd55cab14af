#include "service/worker/kv_block_pool.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

namespace phi::service {
namespace {

TEST(KvBlockPool, GivesEachBlockToOneOwner) {
  KvBlockPool pool(5);
  const auto first = pool.Acquire(1, 3);
  const auto second = pool.Acquire(2, 2);
  ASSERT_TRUE(first && second);
  std::set<uint32_t> all(first->begin(), first->end());
  all.insert(second->begin(), second->end());
  EXPECT_EQ(all, (std::set<uint32_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(pool.counts().owned, 5u);
  EXPECT_TRUE(pool.CheckInvariants().empty());
}

TEST(KvBlockPool, AllOrNothing) {
  KvBlockPool pool(4);
  ASSERT_TRUE(pool.Acquire(1, 2));
  EXPECT_FALSE(pool.Acquire(2, 3));
  EXPECT_EQ(pool.counts().free, 2u);
  EXPECT_TRUE(pool.Acquire(2, 0)->empty());
  EXPECT_TRUE(pool.Acquire(2, 2));
}

TEST(KvBlockPool, AbortsOnARelease) {
  KvBlockPool pool(4);
  const auto blocks = *pool.Acquire(7, 2);
  EXPECT_DEATH(pool.Release(8, blocks), "belongs to 7, not to 8");
  pool.Release(7, blocks);
  EXPECT_DEATH(pool.Release(7, blocks), "belongs to 0");
  const uint32_t beyond = 4;
  EXPECT_DEATH(pool.Release(7, {&beyond, 1}), "block 4 of 4");
}

TEST(KvBlockPool, CountsAddUpUnderRandomUse) {
  std::mt19937_64 random(1);
  KvBlockPool pool(97);
  std::map<uint64_t, std::vector<uint32_t>> held;
  for (uint64_t owner = 1; owner < 3000; ++owner) {
    if (auto blocks = pool.Acquire(owner, static_cast<uint32_t>(random() % 20)))
      held[owner] = *std::move(blocks);
    while (held.size() > 8 || (!held.empty() && random() % 2 == 0)) {
      auto victim = std::next(held.begin(), static_cast<int64_t>(random() % held.size()));
      pool.Release(victim->first, victim->second);
      held.erase(victim);
    }
    size_t sum = 0;
    for (const auto& [id, blocks] : held) sum += blocks.size();
    ASSERT_EQ(pool.counts().owned, sum);
    ASSERT_EQ(pool.CheckInvariants(), std::vector<std::string>{});
  }
  for (const auto& [id, blocks] : held) pool.Release(id, blocks);
  EXPECT_EQ(pool.counts().free, 97u);
}

}  // namespace
}  // namespace phi::service
