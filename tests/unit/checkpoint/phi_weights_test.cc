#include "shard/phi_weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "shard/checkpoint/elements.h"
#include "shard/checkpoint/phi_tensors.h"
#include "tests/unit/checkpoint/scratch_dir.h"
#include "tests/unit/checkpoint/slice_backend.h"
#include "tools/make_checkpoint/random_checkpoint.h"

namespace phi::shard {
namespace {

using ::testing::HasSubstr;

// Tensors under construction, by name; each element counts how often it was put there.
class Reassembly {
 public:
  void Add(const std::string& name, size_t index, float value) {
    values_[name].resize(std::max(values_[name].size(), index + 1));
    times_[name].resize(values_[name].size());
    values_[name][index] = value;
    ++times_[name][index];
  }

  // Rows [to_row ...) of `name`, `cols` wide, from the rectangle of `matrix` that begins at (row,
  // col).
  struct Rectangle {
    Range rows;  // of the tensor
    Range cols;
    int64_t tensor_cols = 0;
    int64_t row = 0;  // in the matrix
    int64_t col = 0;
  };
  void AddRectangle(const std::string& name,
                    const PlainMatrix& matrix,
                    const Rectangle& rectangle) {
    for (int64_t r = 0; r < rectangle.rows.size(); ++r) {
      for (int64_t c = 0; c < rectangle.cols.size(); ++c) {
        const int64_t to =
            (rectangle.rows.begin + r) * rectangle.tensor_cols + rectangle.cols.begin + c;
        const int64_t from = (rectangle.row + r) * matrix.cols() + rectangle.col + c;
        Add(name, static_cast<size_t>(to), matrix.values[static_cast<size_t>(from)]);
      }
    }
  }
  void AddFloats(const std::string& name, Range range, const float* from) {
    for (int64_t i = 0; i < range.size(); ++i)
      Add(name, static_cast<size_t>(range.begin + i), from[i]);
  }

  const std::vector<float>& values(const std::string& name) { return values_[name]; }
  bool EachOnce(const std::string& name) {
    return std::ranges::all_of(times_[name], [](int times) { return times == 1; });
  }

 private:
  std::map<std::string, std::vector<float>> values_;
  std::map<std::string, std::vector<int>> times_;
};

std::vector<float> Floats(const Checkpoint& checkpoint, std::string_view name) {
  const TensorView tensor = checkpoint.Find(name).value();
  std::vector<float> values;
  AppendFloats(tensor.bytes, tensor.dtype, values);
  return values;
}

std::vector<float> Floats(kernels::DeviceBuffer& buffer) {
  std::vector<float> values(buffer.bytes() / sizeof(float));
  std::memcpy(values.data(), buffer.data(), buffer.bytes());
  return values;
}

const PlainMatrix& Plain(const std::unique_ptr<kernels::PackedMatrix>& matrix) {
  return dynamic_cast<const PlainMatrix&>(*matrix);
}

Range Times(Range range, int64_t factor) { return {range.begin * factor, range.end * factor}; }

struct Shape {
  const char* name;
  tools::ModelShape shape;
};

tools::ModelShape Tiny() {
  tools::ModelShape shape;
  shape.vocab_size = 83;
  shape.hidden_size = 24;
  shape.intermediate_size = 70;
  shape.num_hidden_layers = 2;
  shape.num_attention_heads = 6;
  shape.max_position_embeddings = 64;
  return shape;
}

std::vector<Shape> Shapes() {
  Shape equal = {"equal", Tiny()};
  Shape grouped = {"grouped", Tiny()};
  grouped.shape.num_key_value_heads = 3;
  grouped.shape.dtype = "bfloat16";
  Shape odd = {"odd", Tiny()};
  odd.shape.hidden_size = 25;
  odd.shape.head_dim = 6;
  odd.shape.partial_rotary_factor = 0.7;
  odd.shape.num_attention_heads = 5;
  odd.shape.intermediate_size = 17;
  odd.shape.tie_word_embeddings = true;
  odd.shape.dtype = "float16";
  return {equal, grouped, odd};
}

void PrintTo(const Shape& shape, std::ostream* out) { *out << shape.name; }

class PhiWeightsTest : public ::testing::TestWithParam<Shape> {
 protected:
  void SetUp() override {
    ASSERT_TRUE(tools::WriteRandomCheckpoint(
                    {.dir = dir_.path(), .shape = GetParam().shape, .overwrite = true})
                    .ok());
    config_ = ReadModelConfig(dir_.path()).value();
  }

  void AddRank(const RankPartition& partition, const PhiWeights& weights, Reassembly& all) {
    const Range queries = Times(partition.heads, config_.head_dim);
    const Range keys = Times(partition.key_value_heads, config_.head_dim);
    const Range mlp = partition.mlp_columns;
    const Range hidden = {0, config_.hidden_size};
    for (int layer = 0; layer < config_.num_layers; ++layer) {
      const LayerWeights& local = weights.layers[static_cast<size_t>(layer)];
      const auto* b_in = reinterpret_cast<const float*>(local.b_in->data());
      int64_t row = 0;
      for (const auto& [module, range] : {std::pair("self_attn.q_proj", queries),
                                          {"self_attn.k_proj", keys},
                                          {"self_attn.v_proj", keys},
                                          {"mlp.fc1", mlp}}) {
        const std::string name = LayerTensorName(layer, module);
        all.AddRectangle(name + ".weight",
                         Plain(local.w_in),
                         {.rows = range, .cols = hidden, .tensor_cols = hidden.size(), .row = row});
        all.AddFloats(name + ".bias", range, b_in + row);
        row += range.size();
      }
      EXPECT_EQ(row, local.w_in->rows());
      EXPECT_EQ(static_cast<size_t>(row) * sizeof(float), local.b_in->bytes());
      const int64_t query_cols = int64_t{config_.num_heads} * config_.head_dim;
      all.AddRectangle(LayerTensorName(layer, "self_attn.dense.weight"),
                       Plain(local.w_out),
                       {.rows = hidden, .cols = queries, .tensor_cols = query_cols});
      all.AddRectangle(LayerTensorName(layer, "mlp.fc2.weight"),
                       Plain(local.w_out),
                       {.rows = hidden,
                        .cols = mlp,
                        .tensor_cols = config_.intermediate_size,
                        .col = queries.size()});
    }
    if (weights.head == nullptr) return;
    all.AddRectangle("head",
                     Plain(weights.head),
                     {.rows = partition.vocab_rows, .cols = hidden, .tensor_cols = hidden.size()});
    all.AddFloats("lm_head.bias",
                  partition.vocab_rows,
                  reinterpret_cast<const float*>(weights.head_bias->data()));
  }

  // What every rank has whole.
  void ExpectWhole(const Checkpoint& checkpoint, const PhiWeights& weights) {
    EXPECT_EQ(Floats(*weights.embedding), Floats(checkpoint, kEmbeddingTensor));
    EXPECT_EQ(Floats(*weights.final_norm.gamma),
              Floats(checkpoint, "model.final_layernorm.weight"));
    EXPECT_EQ(Floats(*weights.final_norm.beta), Floats(checkpoint, "model.final_layernorm.bias"));
    for (int layer = 0; layer < config_.num_layers; ++layer) {
      const LayerWeights& local = weights.layers[static_cast<size_t>(layer)];
      EXPECT_EQ(Floats(*local.norm.gamma),
                Floats(checkpoint, LayerTensorName(layer, "input_layernorm.weight")));
      EXPECT_EQ(Floats(*local.norm.beta),
                Floats(checkpoint, LayerTensorName(layer, "input_layernorm.bias")));
      std::vector<float> sum = Floats(checkpoint, LayerTensorName(layer, "self_attn.dense.bias"));
      const std::vector<float> b2 = Floats(checkpoint, LayerTensorName(layer, "mlp.fc2.bias"));
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += b2[i];
      EXPECT_EQ(Floats(*local.b_out), sum);
    }
  }

  const ScratchDir dir_;
  ModelConfig config_;
};

TEST_P(PhiWeightsTest, SlicesOfAllRanksPutTogetherAreTheCheckpoint) {
  const Checkpoint checkpoint = Checkpoint::Open(dir_.path()).value();
  for (int world_size = 1; world_size <= config_.num_key_value_heads; ++world_size) {
    SCOPED_TRACE(world_size);
    Reassembly all;
    for (int rank = 0; rank < world_size; ++rank) {
      const RankPartition partition = PartitionModel(config_, rank, world_size).value();
      const std::unique_ptr<kernels::Backend> backend = MakeSliceBackend();
      const absl::StatusOr<PhiWeights> weights =
          LoadPhiWeights(checkpoint, config_, partition, *backend, {});
      ASSERT_TRUE(weights.ok()) << weights.status();
      AddRank(partition, *weights, all);
      ExpectWhole(checkpoint, *weights);
    }
    const std::string head =
        config_.tie_word_embeddings ? std::string(kEmbeddingTensor) : std::string(kHeadTensor);
    EXPECT_EQ(all.values("head"), Floats(checkpoint, head));
    EXPECT_TRUE(all.EachOnce("head"));
    for (const TensorSpec& spec : PhiTensors(config_)) {
      const bool is_cut = spec.name.find("layernorm") == spec.name.npos &&
                          !spec.name.ends_with("dense.bias") && !spec.name.ends_with("fc2.bias") &&
                          spec.name != head && spec.name != kEmbeddingTensor;
      if (!is_cut) continue;
      EXPECT_EQ(all.values(spec.name), Floats(checkpoint, spec.name)) << spec.name;
      EXPECT_TRUE(all.EachOnce(spec.name)) << spec.name;
    }
  }
}

size_t Bytes(const NormBuffers& norm) { return norm.gamma->bytes() + norm.beta->bytes(); }

TEST_P(PhiWeightsTest, PlannedBytesAreThoseThatAreTaken) {
  const Checkpoint checkpoint = Checkpoint::Open(dir_.path()).value();
  const int world_size = config_.num_key_value_heads;
  for (int rank = 0; rank < world_size; ++rank) {
    const RankPartition partition = PartitionModel(config_, rank, world_size).value();
    const std::unique_ptr<kernels::Backend> backend = MakeSliceBackend();
    const PhiWeights weights = LoadPhiWeights(checkpoint, config_, partition, *backend, {}).value();
    size_t taken = weights.embedding->bytes() + Bytes(weights.final_norm);
    if (weights.head != nullptr) taken += weights.head->bytes() + weights.head_bias->bytes();
    for (const LayerWeights& layer : weights.layers) {
      taken += Bytes(layer.norm) + layer.w_in->bytes() + layer.b_in->bytes() +
               layer.w_out->bytes() + layer.b_out->bytes();
    }
    EXPECT_EQ(PhiWeightsBytes(config_, partition, *backend), taken);
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes,
                         PhiWeightsTest,
                         ::testing::ValuesIn(Shapes()),
                         [](const auto& test) { return std::string(test.param.name); });

// A checkpoint of Tiny() in float32, one of whose elements is `value`.
class NonfiniteTest : public ::testing::Test {
 protected:
  void SetUp() override { Make(); }
  void Make() {
    ASSERT_TRUE(
        tools::WriteRandomCheckpoint({.dir = dir_.path(), .shape = Tiny(), .overwrite = true})
            .ok());
    config_ = ReadModelConfig(dir_.path()).value();
  }

  void Poke(std::string_view name, int64_t index, float value) {
    const Checkpoint checkpoint = Checkpoint::Open(dir_.path()).value();
    const std::string file = dir_.Read("model.safetensors");
    const TensorView tensor = checkpoint.Find(name).value();
    const TensorView first = checkpoint.Find(kEmbeddingTensor).value();
    // The embedding comes first in the file, right after the header.
    uint64_t header_bytes = 0;
    std::memcpy(&header_bytes, file.data(), sizeof(header_bytes));
    const auto offset = 8 + static_cast<int64_t>(header_bytes) +
                        (tensor.bytes.data() - first.bytes.data()) + 4 * index;
    std::fstream out(dir_.File("model.safetensors"),
                     std::ios::in | std::ios::out | std::ios::binary);
    out.seekp(offset);
    out.write(reinterpret_cast<const char*>(&value), sizeof(value));
  }

  std::string Load(int rank, int world_size, bool verify = true) {
    const Checkpoint checkpoint = Checkpoint::Open(dir_.path()).value();
    const RankPartition partition = PartitionModel(config_, rank, world_size).value();
    const std::unique_ptr<kernels::Backend> backend = MakeSliceBackend();
    const absl::Status status =
        LoadPhiWeights(checkpoint, config_, partition, *backend, {.verify = verify}).status();
    EXPECT_TRUE(status.ok() || absl::IsInvalidArgument(status));
    return std::string(status.message());
  }

  const ScratchDir dir_;
  ModelConfig config_;
};

TEST_F(NonfiniteTest, IsRefusedByTheRankThatOwnsIt) {
  EXPECT_EQ(Load(0, 1), "");
  // Column 69 of fc2's row 3: MLP columns 48 .. 69 are the second of two ranks'.
  Poke("model.layers.1.mlp.fc2.weight", 3 * 70 + 69, std::numeric_limits<float>::infinity());
  const std::string message =
      "tensor model.layers.1.mlp.fc2.weight: the element in row 3, column 69 is NaN or infinite";
  EXPECT_EQ(Load(0, 1), message);
  EXPECT_EQ(Load(0, 2), "");
  EXPECT_EQ(Load(1, 2), message);
  EXPECT_EQ(Load(1, 2, /*verify=*/false), "");
}

TEST_F(NonfiniteTest, IsFoundInEveryTensor) {
  for (const TensorSpec& spec : PhiTensors(config_)) {
    Make();
    Poke(spec.name, 1, std::numeric_limits<float>::quiet_NaN());
    const std::string where =
        spec.shape.size() == 1 ? "element 1" : "the element in row 0, column 1";
    EXPECT_EQ(Load(0, 1), absl::StrCat("tensor ", spec.name, ": ", where, " is NaN or infinite"));
    EXPECT_EQ(Load(0, 1, /*verify=*/false), "");
  }
}

TEST_F(NonfiniteTest, AChangedFileIsRefused) {
  const Checkpoint checkpoint = Checkpoint::Open(dir_.path()).value();
  std::filesystem::resize_file(dir_.File("model.safetensors"), 100'000);
  const RankPartition partition = PartitionModel(config_, 0, 1).value();
  const std::unique_ptr<kernels::Backend> backend = MakeSliceBackend();
  EXPECT_THAT(
      std::string(LoadPhiWeights(checkpoint, config_, partition, *backend, {}).status().message()),
      HasSubstr("was changed while the model was loaded"));
}

}  // namespace
}  // namespace phi::shard
