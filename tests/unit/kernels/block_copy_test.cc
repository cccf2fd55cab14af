#include <algorithm>
#include <random>

#include "tests/unit/kernels/kernel_fixture.h"

namespace phi::kernels {
namespace {

constexpr int64_t kNumBlocks = 9;

constexpr AttentionShape kShapes[] = {
    {.num_heads = 8, .num_key_value_heads = 8, .head_dim = 64, .rotary_dim = 32},  // on all threads
    {.num_heads = 6, .num_key_value_heads = 2, .head_dim = 20, .rotary_dim = 10},
    {.num_heads = 1, .num_key_value_heads = 1, .head_dim = 1, .rotary_dim = 0},
};

class BlockCopyTest : public KernelTest {};

// Bit by bit, whatever the bits are; and nothing but the copies changes.
TEST_P(BlockCopyTest, CopiesKeysAndValuesOfWholeBlocks) {
  const std::vector<KvBlockCopy> copies = {
      {.from = 3, .to = 5}, {.from = 3, .to = 0}, {.from = 7, .to = 8}};
  std::mt19937 random(4);
  for (const int threads : {1, 3}) {
    const auto backend = MakeBackend(threads);
    for (const AttentionShape& shape : kShapes) {
      const size_t block_bytes = backend->KvBlockBytes(shape) / 2;
      const size_t half = kNumBlocks * block_bytes;
      VisibleVector<std::byte> cache(2 * half);
      for (std::byte& byte : cache) byte = static_cast<std::byte>(random() & 255);
      VisibleVector<std::byte> expected = cache;
      for (const KvBlockCopy& copy : copies) {
        for (const size_t begin : {size_t{0}, half}) {
          std::copy_n(cache.begin() + static_cast<int64_t>(begin + static_cast<size_t>(copy.from) *
                                                                       block_bytes),
                      block_bytes,
                      expected.begin() +
                          static_cast<int64_t>(begin + static_cast<size_t>(copy.to) * block_bytes));
        }
      }
      StepBatch batch;
      batch.block_copies = copies;
      backend->BeginStep(batch);
      backend->CopyKvBlocks(shape, {cache.data(), cache.data() + half});
      ASSERT_TRUE(backend->FinishStep().ok());
      EXPECT_EQ(cache, expected) << "head_dim " << shape.head_dim << ", " << threads << " threads";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Machine, BlockCopyTest, testing::ValuesIn(MachineCases()), CaseName);

}  // namespace
}  // namespace phi::kernels
