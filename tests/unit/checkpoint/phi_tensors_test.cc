#include "shard/checkpoint/phi_tensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/unit/checkpoint/scratch_dir.h"

namespace phi::shard {
namespace {

using ::testing::HasSubstr;

ModelConfig Shape(bool tied) {
  ModelConfig config;
  config.vocab_size = 10;
  config.hidden_size = 6;
  config.intermediate_size = 5;
  config.num_layers = 2;
  config.num_heads = 2;
  config.num_key_value_heads = 1;
  config.head_dim = 4;  // query rows are not hidden_size
  config.tie_word_embeddings = tied;
  return config;
}

// A checkpoint in `dir` that holds `specs` as float32.
Checkpoint Write(const ScratchDir& dir, const std::vector<TensorSpec>& specs) {
  std::string header = "{";
  size_t end = 0;
  for (const TensorSpec& spec : specs) {
    size_t bytes = 4;
    std::string shape;
    for (const int64_t dim : spec.shape) {
      bytes *= static_cast<size_t>(dim);
      absl::StrAppend(&shape, shape.empty() ? "" : ",", dim);
    }
    const std::string dtype = spec.name.ends_with("k_proj.bias") && bytes == 32 ? "I64" : "F32";
    absl::StrAppend(
        &header, end == 0 ? "" : ",", "\"", spec.name, "\":{\"dtype\":\"", dtype, "\",\"shape\":[");
    absl::StrAppend(
        &header, dtype == "I64" ? "4" : shape, "],\"data_offsets\":[", end, ",", end + bytes, "]}");
    end += bytes;
  }
  dir.Write("model.safetensors", SafetensorsBytes(header + "}", end));
  absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(dir.path());
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  return std::move(checkpoint).value();
}

std::string Message(const std::vector<TensorSpec>& specs, bool tied = false) {
  const ScratchDir dir;
  const absl::Status status = CheckPhiTensors(Write(dir, specs), Shape(tied));
  EXPECT_TRUE(status.ok() || absl::IsInvalidArgument(status));
  return std::string(status.message());
}

TensorSpec& Named(std::vector<TensorSpec>& specs, std::string_view name) {
  for (TensorSpec& spec : specs) {
    if (spec.name == name) return spec;
  }
  ADD_FAILURE() << "no " << name;
  return specs.front();
}

TEST(PhiTensorsTest, AcceptsExactlyTheModelsTensors) {
  std::vector<TensorSpec> specs = PhiTensors(Shape(false));
  EXPECT_EQ(specs.size(), 1U + 2 * 14 + 2 + 2);
  EXPECT_EQ(Message(specs), "");
  specs.push_back({.name = "model.layers.1.self_attn.rotary_emb.inv_freq", .shape = {2}});
  EXPECT_EQ(Message(specs), "");  // of checkpoints before transformers 4.36
}

TEST(PhiTensorsTest, NamesMissingAndExtraTensors) {
  std::vector<TensorSpec> specs = PhiTensors(Shape(false));
  specs.pop_back();
  EXPECT_EQ(Message(specs), "tensors that config.json asks for are missing: lm_head.bias");
  specs = PhiTensors(Shape(false));
  specs.push_back({.name = "model.layers.2.mlp.fc1.weight", .shape = {5, 6}});
  EXPECT_THAT(Message(specs), HasSubstr("knows nothing of: model.layers.2.mlp.fc1.weight"));
  EXPECT_THAT(Message({{.name = "x", .shape = {1}}}),
              HasSubstr(" and 28 more; tensors that config.json knows nothing"));
}

TEST(PhiTensorsTest, NamesBothShapesOfAWrongOne) {
  std::vector<TensorSpec> specs = PhiTensors(Shape(false));
  Named(specs, "model.layers.1.self_attn.dense.weight").shape = {8, 6};
  EXPECT_EQ(Message(specs),
            "tensor model.layers.1.self_attn.dense.weight has shape [8, 6], but config.json makes "
            "it [6, 8]");
  specs = PhiTensors(Shape(false));
  Named(specs, "lm_head.bias").shape = {10, 1};
  EXPECT_THAT(Message(specs), HasSubstr("lm_head.bias has shape [10, 1]"));
}

TEST(PhiTensorsTest, NamesADTypeThatIsNotServed) {
  std::vector<TensorSpec> specs = PhiTensors(Shape(false));
  Named(specs, "model.layers.0.self_attn.k_proj.bias").shape = {8};  // 32 bytes: written as I64 [4]
  EXPECT_THAT(Message(specs),
              HasSubstr("tensor model.layers.0.self_attn.k_proj.bias has dtype I64"));
}

TEST(PhiTensorsTest, ATiedModelMayStoreEitherNameOrBoth) {
  const ScratchDir dir;
  std::vector<TensorSpec> specs = PhiTensors(Shape(true));
  {
    const Checkpoint checkpoint = Write(dir, specs);
    EXPECT_TRUE(CheckPhiTensors(checkpoint, Shape(true)).ok());
    EXPECT_EQ(FindTiedTensors(checkpoint, Shape(true)).head, kEmbeddingTensor);
    EXPECT_THAT(std::string(CheckPhiTensors(checkpoint, Shape(false)).message()),
                HasSubstr("missing: lm_head.weight"));
  }
  Named(specs, kEmbeddingTensor).name = kHeadTensor;
  {
    const Checkpoint checkpoint = Write(dir, specs);
    EXPECT_TRUE(CheckPhiTensors(checkpoint, Shape(true)).ok());
    EXPECT_EQ(FindTiedTensors(checkpoint, Shape(true)).embedding, kHeadTensor);
  }
  const Checkpoint both = Write(dir, PhiTensors(Shape(false)));
  EXPECT_TRUE(CheckPhiTensors(both, Shape(true)).ok());
  EXPECT_EQ(FindTiedTensors(both, Shape(true)).embedding, kEmbeddingTensor);
  EXPECT_EQ(FindTiedTensors(both, Shape(true)).head, kHeadTensor);
}

}  // namespace
}  // namespace phi::shard
