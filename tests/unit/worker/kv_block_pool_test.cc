#include "service/worker/batching/kv_block_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <random>
#include <set>

namespace phi::service {
namespace {

using testing::IsEmpty;

constexpr uint32_t kNone = PrefixIndex::kNoBlock;
using Tokens = std::array<uint32_t, kernels::kKvBlockTokens>;

Tokens Block(uint32_t first) {
  Tokens tokens{};
  for (uint32_t i = 0; i < tokens.size(); ++i) tokens[i] = first + i;
  return tokens;
}

TEST(KvBlockPool, GivesEachBlockOnce) {
  KvBlockPool pool(5);
  std::set<uint32_t> all;
  for (int i = 0; i < 5; ++i) all.insert(*pool.Acquire());
  EXPECT_EQ(all, (std::set<uint32_t>{0, 1, 2, 3, 4}));
  EXPECT_FALSE(pool.Acquire());
  EXPECT_EQ(pool.counts().owned, 5u);
  EXPECT_THAT(pool.CheckInvariants(), IsEmpty());
}

TEST(KvBlockPool, SharedBlockIsFreeAfterItsLastRelease) {
  KvBlockPool pool(2);
  const std::array<uint32_t, 1> chain = {*pool.Acquire()};
  pool.Share(chain);
  pool.Release(chain);
  EXPECT_EQ(pool.counts().free, 1u);
  pool.Release(chain);
  EXPECT_EQ(pool.counts().free, 2u);
  EXPECT_DEATH(pool.Release(chain), "not owned");
  EXPECT_DEATH(pool.Share(chain), "not owned");
}

TEST(KvBlockPool, PublishedBlockIsFoundByItsWholePrefix) {
  KvBlockPool pool(4);
  const uint32_t first = *pool.Acquire();
  const uint32_t second = *pool.Acquire();
  EXPECT_EQ(pool.Publish(first, kNone, Block(1), "a"), first);
  EXPECT_EQ(pool.Publish(second, first, Block(50), "a"), second);
  EXPECT_EQ(pool.Find(kNone, Block(1), "a"), first);
  EXPECT_EQ(pool.references(first), 2u);
  EXPECT_EQ(pool.Find(first, Block(50), "a"), second);
  EXPECT_FALSE(pool.Find(kNone, Block(1), "b")) << "another salt";
  EXPECT_FALSE(pool.Find(kNone, Block(50), "a")) << "another beginning";
  EXPECT_FALSE(pool.Find(first, Block(51), "a")) << "another token";
}

TEST(KvBlockPool, EqualBlocksAreKeptOnce) {
  KvBlockPool pool(4);
  const uint32_t first = *pool.Acquire();
  const uint32_t same = *pool.Acquire();
  pool.Publish(first, kNone, Block(1), "");
  EXPECT_EQ(pool.Publish(same, kNone, Block(1), ""), first);
  EXPECT_EQ(pool.references(first), 2u);
  EXPECT_EQ(pool.references(same), 0u);
  EXPECT_EQ(pool.counts().free, 3u);
}

TEST(KvBlockPool, CachedBlocksAreTakenLeastRecentlyUsedFirstAndChildrenBeforeParents) {
  KvBlockPool pool(4);
  std::vector<uint32_t> old_chain;
  std::vector<uint32_t> new_chain;
  for (std::vector<uint32_t>* chain : {&old_chain, &new_chain}) {
    const uint32_t salt_token = chain == &old_chain ? 1 : 2;
    chain->push_back(*pool.Acquire());
    chain->push_back(*pool.Acquire());
    pool.Publish((*chain)[0], kNone, Block(salt_token), "");
    pool.Publish((*chain)[1], (*chain)[0], Block(9), "");
  }
  pool.Release(old_chain);
  pool.Release(new_chain);
  EXPECT_EQ(pool.counts().cached, 4u);
  EXPECT_EQ(pool.available(), 4u);
  EXPECT_EQ(pool.Acquire(), old_chain[1]);
  EXPECT_THAT(pool.CheckInvariants(), IsEmpty());
  // Used again, and so the last one to go.
  EXPECT_EQ(pool.Find(kNone, Block(1), ""), old_chain[0]);
  pool.Release({old_chain.data(), 1});
  EXPECT_EQ(pool.Acquire(), new_chain[1]);
  EXPECT_EQ(pool.Acquire(), new_chain[0]);
  EXPECT_EQ(pool.Acquire(), old_chain[0]);
  EXPECT_THAT(pool.CheckInvariants(), IsEmpty());
}

TEST(KvBlockPool, ForgottenTokensAreNotFoundAndNotPublishedUnder) {
  KvBlockPool pool(4);
  const uint32_t used = *pool.Acquire();
  const uint32_t unused = *pool.Acquire();
  pool.Publish(used, kNone, Block(1), "");
  pool.Publish(unused, used, Block(2), "");
  pool.Release({&unused, 1});
  pool.ForgetAll();
  EXPECT_EQ(pool.counts().free, 3u);
  EXPECT_FALSE(pool.Find(kNone, Block(1), ""));
  const uint32_t child = *pool.Acquire();
  EXPECT_EQ(pool.Publish(child, used, Block(2), ""), child);
  EXPECT_FALSE(pool.Find(used, Block(2), ""));
  EXPECT_THAT(pool.CheckInvariants(), IsEmpty());
}

// Chains of random depth over few tokens, so that prefixes meet often.
TEST(KvBlockPool, CountsAddUpUnderRandomUse) {
  std::mt19937_64 random(1);
  KvBlockPool pool(61);
  std::vector<std::vector<uint32_t>> held;
  uint32_t hits = 0;
  for (int round = 0; round < 4000; ++round) {
    std::vector<uint32_t> chain;
    for (size_t depth = random() % 12; depth > 0; --depth) {
      const uint32_t parent = chain.empty() ? kNone : chain.back();
      const Tokens tokens = Block(static_cast<uint32_t>(random() % 2));
      if (const auto block = pool.Find(parent, tokens, "")) {
        chain.push_back(*block);
        ++hits;
      } else if (const auto fresh = pool.Acquire()) {
        chain.push_back(pool.Publish(*fresh, parent, tokens, ""));
      }
    }
    held.push_back(std::move(chain));
    while (held.size() > 6 || (!held.empty() && random() % 2 == 0)) {
      const size_t victim = random() % held.size();
      pool.Release(held[victim]);
      held.erase(held.begin() + static_cast<int64_t>(victim));
    }
    std::set<uint32_t> owned;
    for (const auto& blocks : held) owned.insert(blocks.begin(), blocks.end());
    ASSERT_EQ(pool.counts().owned, owned.size());
    ASSERT_EQ(pool.CheckInvariants(), std::vector<std::string>{});
  }
  EXPECT_GT(hits, 1000u);
}

}  // namespace
}  // namespace phi::service
