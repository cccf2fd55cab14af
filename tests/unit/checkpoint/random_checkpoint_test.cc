#include "tools/make_checkpoint/random_checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <string>

#include "shard/checkpoint/elements.h"
#include "shard/checkpoint/model_config.h"
#include "shard/checkpoint/phi_tensors.h"
#include "tests/unit/checkpoint/scratch_dir.h"
#include "tools/make_checkpoint/byte_tokenizer.h"

namespace phi::tools {
namespace {

using shard::ScratchDir;
using ::testing::HasSubstr;

const ModelShape& ShapeOf(std::string_view name) {
  for (const Preset& preset : Presets()) {
    if (preset.name == name) return preset.shape;
  }
  ADD_FAILURE() << name;
  return Presets().front().shape;
}

std::string WeightsOf(const RandomCheckpoint& options) {
  const ScratchDir dir;
  RandomCheckpoint checkpoint = options;
  checkpoint.dir = dir.path();
  EXPECT_TRUE(WriteRandomCheckpoint(checkpoint).ok());
  return dir.Read("model.safetensors");
}

uint64_t Fnv1a(std::string_view bytes) {
  uint64_t hash = 0xCBF29CE484222325ULL;
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ULL;
  return hash;
}

TEST(RandomCheckpointTest, TheSameSeedGivesTheSameBytesOnEveryMachine) {
  ModelShape shape = ShapeOf("tiny");
  const std::string one = WeightsOf({.shape = shape, .seed = 5, .num_threads = 1});
  EXPECT_EQ(one, WeightsOf({.shape = shape, .seed = 5, .num_threads = 3}));
  EXPECT_NE(one, WeightsOf({.shape = shape, .seed = 6, .num_threads = 1}));
  // Printed by this test, g++ 12.2 on x86-64; a change means that stored answers of random
  // checkpoints are stale.
  EXPECT_EQ(Fnv1a(one), 0xCCF4420F53DA5CC8ULL);
  shape.dtype = "bfloat16";
  EXPECT_EQ(Fnv1a(WeightsOf({.shape = shape, .seed = 5})), 0xE5DDA20A8AF2C89CULL);
  shape.dtype = "float16";
  EXPECT_EQ(Fnv1a(WeightsOf({.shape = shape, .seed = 5})), 0xC9F207C18690360EULL);
}

TEST(RandomCheckpointTest, IsAModelThatIsServed) {
  for (const ConfigStyle style : {ConfigStyle::kTopLevel, ConfigStyle::kRopeParameters}) {
    for (const char* dtype : {"float32", "float16", "bfloat16"}) {
      const ScratchDir dir;
      ModelShape shape = ShapeOf("tiny");
      shape.dtype = dtype;
      shape.num_key_value_heads = 2;
      shape.tie_word_embeddings = style == ConfigStyle::kTopLevel;
      ASSERT_TRUE(
          WriteRandomCheckpoint({.dir = dir.path(), .shape = shape, .style = style, .num_files = 3})
              .ok());
      const absl::StatusOr<shard::ModelConfig> config = shard::ReadModelConfig(dir.path());
      ASSERT_TRUE(config.ok()) << config.status();
      EXPECT_EQ(config->num_key_value_heads, 2);
      EXPECT_EQ(kernels::DTypeName(config->dtype), dtype);
      EXPECT_FALSE(std::filesystem::exists(dir.File("model.safetensors")));
      const absl::StatusOr<shard::Checkpoint> checkpoint = shard::Checkpoint::Open(dir.path());
      ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
      EXPECT_TRUE(shard::CheckPhiTensors(*checkpoint, *config).ok());
      EXPECT_EQ(FindEndOfText(dir.Read("tokenizer.json")), 256U);
    }
  }
}

// Five deviations of the estimates: a mean of n numbers has deviation s / sqrt(n), a deviation
// about s / sqrt(2 n).
TEST(RandomCheckpointTest, WeightsAreSpreadAsTheyAreMeantToBe) {
  const ScratchDir dir;
  const ModelShape& shape = ShapeOf("tiny");
  ASSERT_TRUE(WriteRandomCheckpoint({.dir = dir.path(), .shape = shape}).ok());
  const shard::Checkpoint checkpoint = shard::Checkpoint::Open(dir.path()).value();
  struct Case {
    const char* name;
    double mean;
    double deviation;
  };
  for (const Case& row : {Case{"model.embed_tokens.weight", 0, 1},
                          Case{"lm_head.weight", 0, 2 / std::sqrt(64)},
                          Case{"lm_head.bias", 0, 0.1},
                          Case{"model.final_layernorm.weight", 1, 0.1},
                          Case{"model.layers.1.mlp.fc2.weight", 0, 1 / std::sqrt(144)}}) {
    const shard::TensorView tensor = checkpoint.Find(row.name).value();
    std::vector<float> values;
    shard::AppendFloats(tensor.bytes, tensor.dtype, values);
    const auto count = static_cast<double>(values.size());
    double sum = 0;
    for (const float value : values) sum += value;
    const double mean = sum / count;
    double squares = 0;
    for (const float value : values) squares += (value - mean) * (value - mean);
    EXPECT_NEAR(mean, row.mean, 5 * row.deviation / std::sqrt(count)) << row.name;
    EXPECT_NEAR(std::sqrt(squares / count), row.deviation, 5 * row.deviation / std::sqrt(2 * count))
        << row.name;
  }
}

TEST(RandomCheckpointTest, ReplacesAnotherCheckpointOnlyWhenTold) {
  const ScratchDir dir;
  const ModelShape& shape = ShapeOf("tiny");
  ASSERT_TRUE(WriteRandomCheckpoint({.dir = dir.path(), .shape = shape, .num_files = 2}).ok());
  dir.Write("README.md", "stays");
  const absl::Status refused = WriteRandomCheckpoint({.dir = dir.path(), .shape = shape});
  EXPECT_EQ(refused.code(), absl::StatusCode::kAlreadyExists);
  ASSERT_TRUE(WriteRandomCheckpoint({.dir = dir.path(), .shape = shape, .overwrite = true}).ok());
  EXPECT_FALSE(std::filesystem::exists(dir.File("model.safetensors.index.json")));
  EXPECT_FALSE(std::filesystem::exists(dir.File("model-00001-of-00002.safetensors")));
  EXPECT_EQ(dir.Read("README.md"), "stays");
}

TEST(RandomCheckpointTest, RefusesWhatWouldNotBeServed) {
  const ScratchDir dir;
  ModelShape shape = ShapeOf("tiny");
  shape.num_key_value_heads = 3;
  const absl::Status status = WriteRandomCheckpoint({.dir = dir.path(), .shape = shape});
  EXPECT_THAT(std::string(status.message()), HasSubstr("`num_key_value_heads`"));
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
  dir.Write("t.json", R"({"added_tokens":[{"id":50256,"content":"<|endoftext|>"}]})");
  const absl::Status small = WriteRandomCheckpoint(
      {.dir = dir.File("m"), .shape = ShapeOf("tiny"), .tokenizer_path = dir.File("t.json")});
  EXPECT_THAT(std::string(small.message()), HasSubstr("end of text is 50256"));
}

}  // namespace
}  // namespace phi::tools
