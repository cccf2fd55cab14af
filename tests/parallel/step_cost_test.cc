// Launches and bytes of a decode step as the host harness counts them, held against the issue's
// bound and against the model that tools/bench prints rooflines from.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

#include "absl/strings/str_format.h"
#include "tests/cuda_host/harness.h"
#include "tests/parallel/rank_group.h"
#include "tools/bench/roofline.h"
#include "tools/make_checkpoint/random_checkpoint.h"

namespace phi::shard {
namespace {

// Every width is a whole number of tiles: nothing is padded, so that bytes can be equal.
const tools::ModelShape kShape{.vocab_size = 256,
                               .hidden_size = 128,
                               .intermediate_size = 256,
                               .num_hidden_layers = 3,
                               .num_attention_heads = 4,
                               .max_position_embeddings = 128};
constexpr int kContext = 48;  // whole blocks
constexpr kernels::DType kDType = kernels::DType::kBFloat16;

// Kept for the end of tools/test.sh.
void Figure(const std::string& line) {
  std::printf("figure: %s\n", line.c_str());
  if (const char* const results = std::getenv("PHI_TEST_RESULTS")) {
    std::ofstream(std::string(results) + "/figures.txt", std::ios::app) << line << "\n";
  }
}

class StepCost : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(tools::WriteRandomCheckpoint({.dir = dir_.path(),
                                              .shape = kShape,
                                              .seed = 3,
                                              .tokenizer_path = "",
                                              .on_progress = {}})
                    .ok());
    auto config = ReadModelConfig(dir_.path());
    ASSERT_TRUE(config.ok()) << config.status();
    config_ = *config;
  }

  // What rank 0's device did in a decode step of `batch` sequences, after their prefill.
  cuda_host::DeviceCounts CountDecode(int batch, int world_size) const {
    RankGroup group({.model_dir = dir_.path(),
                     .world_size = world_size,
                     .make_rank = DefaultRanks(kDType).maker(1),
                     .num_real_tokens = static_cast<uint32_t>(kShape.vocab_size)});
    StepPlan prefill;
    StepPlan decode;
    for (uint32_t i = 0; i < static_cast<uint32_t>(batch); ++i) {
      const std::vector<uint32_t> blocks = {4 * i, 4 * i + 1, 4 * i + 2, 4 * i + 3};
      for (uint32_t position = 0; position < kContext; ++position) {
        prefill.token_ids.push_back((7 * i + position) % 256);
      }
      prefill.sequences.push_back(
          {.num_tokens = kContext, .block_ids = {blocks.begin(), blocks.begin() + 3}});
      decode.token_ids.push_back(i);
      decode.sequences.push_back(
          {.num_tokens = 1, .first_position = kContext, .block_ids = blocks, .num_draws = 1});
    }
    EXPECT_TRUE(group.Execute(prefill).ok());
    cuda_host::TakeCounts(0);
    const auto result = group.Execute(decode);
    EXPECT_TRUE(result.ok()) << result.status();
    return cuda_host::TakeCounts(0);
  }

  static uint64_t BytesRead(const cuda_host::DeviceCounts& counts) {
    uint64_t bytes = 0;
    for (const auto& [name, count] : counts.kernels) bytes += count.bytes_read;
    return bytes;
  }

  TemporaryDir dir_;
  ModelConfig config_;
};

TEST_F(StepCost, OneSequenceTakesThreeLaunchesALayerAndFourMoreAtMost) {
  const cuda_host::DeviceCounts counts = CountDecode(1, 1);
  EXPECT_LE(counts.launches(), 3 * static_cast<uint64_t>(kShape.num_hidden_layers) + 4);
  EXPECT_EQ(counts.collectives, 0U);
  Figure(absl::StrFormat(
      "CUDA on the host: %d launches and %d bytes a token (16-byte loads, cp.async and cuBLASLt) "
      "counted at batch 1, %d layers, %d positions",
      counts.launches(),
      BytesRead(counts),
      kShape.num_hidden_layers,
      kContext));
}

TEST_F(StepCost, TheModelIsWhatIsCounted) {
  for (const int batch : {1, 4}) {
    const cuda_host::DeviceCounts counts = CountDecode(batch, 1);
    const bench::DecodeCost cost =
        bench::CostOfDecode(config_, kDType, {.batch = batch, .context = kContext});
    EXPECT_EQ(counts.launches(), static_cast<uint64_t>(cost.launches)) << "batch " << batch;
    EXPECT_EQ(static_cast<double>(BytesRead(counts)), cost.bytes()) << "batch " << batch;
  }
}

TEST_F(StepCost, ALayerIsOneCollectiveAndHalfTheWeights) {
  const cuda_host::DeviceCounts counts = CountDecode(1, 2);
  const bench::DecodeCost cost =
      bench::CostOfDecode(config_, kDType, {.context = kContext, .world_size = 2});
  EXPECT_LE(counts.launches(), 3 * static_cast<uint64_t>(kShape.num_hidden_layers) + 4);
  EXPECT_EQ(counts.collectives, static_cast<uint64_t>(cost.collectives));
  EXPECT_EQ(static_cast<double>(BytesRead(counts)), cost.bytes());
}

// Rooflines of the real model by the same formula.
TEST(Roofline, PrintsPhi1) {
  const ModelConfig phi_1{.vocab_size = 51200,
                          .hidden_size = 2048,
                          .intermediate_size = 8192,
                          .num_layers = 24,
                          .num_heads = 32,
                          .num_key_value_heads = 32,
                          .head_dim = 64};
  for (const bench::DeviceSpec& device : bench::KnownDevices()) {
    std::string line =
        absl::StrFormat("modelled, Phi-1 bfloat16 batch 1 at 1024 positions, %s:", device.name);
    double one_rank = 0;
    for (const int ranks : {1, 2, 4}) {
      const bench::DecodeCost cost = bench::CostOfDecode(phi_1, kDType, {.world_size = ranks});
      const bench::ModelledSeconds seconds =
          bench::ModelDecode(cost, ranks, device.bytes_per_second);
      line += absl::StrFormat("%s %d GPU: %d launches, %.2f GB a token, %.2f ms by bytes, %.2f ms",
                              ranks == 1 ? "" : ";",
                              ranks,
                              cost.launches,
                              cost.bytes() / 1e9,
                              seconds.bytes_alone * 1e3,
                              seconds.with_launches * 1e3);
      if (ranks == 1) one_rank = seconds.with_launches;
      EXPECT_LE(seconds.with_launches, one_rank);
      EXPECT_GT(seconds.with_launches, seconds.bytes_alone);
    }
    Figure(line);
  }
}

}  // namespace
}  // namespace phi::shard
