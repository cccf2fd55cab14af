#include "shard/checkpoint/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/unit/checkpoint/scratch_dir.h"

namespace phi::shard {
namespace {

using ::testing::HasSubstr;

// microsoft/phi-1's own config.json (its numbers), in the spelling of transformers 4.
constexpr const char* kPhi1 = R"({
  "architectures": ["PhiForCausalLM"], "attention_dropout": 0.0, "bos_token_id": null, "embd_pdrop": 0.0,
  "eos_token_id": null, "hidden_act": "gelu_new", "hidden_size": 2048, "initializer_range": 0.02,
  "intermediate_size": 8192, "layer_norm_eps": 1e-05, "max_position_embeddings": 2048, "model_type": "phi",
  "num_attention_heads": 32, "num_hidden_layers": 24, "num_key_value_heads": null, "partial_rotary_factor": 0.5,
  "qk_layernorm": false, "resid_pdrop": 0.0, "rope_scaling": null, "rope_theta": 10000.0,
  "tie_word_embeddings": false, "torch_dtype": "float32", "transformers_version": "4.37.0", "use_cache": true,
  "vocab_size": 51200})";

ModelConfig Phi1() {
  ModelConfig config;
  config.vocab_size = 51200;
  config.hidden_size = 2048;
  config.intermediate_size = 8192;
  config.num_layers = 24;
  config.num_heads = 32;
  config.num_key_value_heads = 32;
  config.head_dim = 64;
  config.rotary_dim = 32;
  config.max_positions = 2048;
  return config;
}

// A config with `field` in place of, or beside, the defaults.
std::string With(const std::string& field) {
  return absl::StrCat(R"({"model_type":"phi",)", field, "}");
}

ModelConfig Parsed(const std::string& text) {
  const absl::StatusOr<ModelConfig> config = ParseModelConfig(text);
  EXPECT_TRUE(config.ok()) << config.status() << " for " << text;
  return config.value_or(ModelConfig());
}

TEST(ModelConfigTest, ReadsPhi1) { EXPECT_EQ(Parsed(kPhi1), Phi1()); }

TEST(ModelConfigTest, DefaultsAreThoseOfPhiConfig) {
  EXPECT_EQ(Parsed(R"({"model_type":"phi"})"), Phi1());
}

TEST(ModelConfigTest, BothSpellingsOfTheRotaryFieldsMeanTheSame) {
  ModelConfig expected = Phi1();
  expected.rope_theta = 5000.0F;
  expected.rotary_dim = 16;
  EXPECT_EQ(Parsed(With(R"("rope_theta":5000,"partial_rotary_factor":0.25)")), expected);
  EXPECT_EQ(
      Parsed(With(
          R"("rope_parameters":{"rope_type":"default","rope_theta":5000.0,"partial_rotary_factor":0.25})")),
      expected);
  // The inner ones win; what they leave out is looked for outside.
  EXPECT_EQ(
      Parsed(With(
          R"("rope_theta":7,"partial_rotary_factor":0.25,"rope_parameters":{"rope_theta":5000.0})")),
      expected);
  EXPECT_EQ(
      Parsed(With(
          R"("rope_theta":5000,"partial_rotary_factor":0.25,"rope_scaling":{"type":"default"})")),
      expected);
  EXPECT_EQ(Parsed(With(R"("rope_parameters":null,"rope_scaling":null)")), Phi1());
  EXPECT_EQ(Parsed(With(R"("rope_parameters":{})")), Phi1());
}

TEST(ModelConfigTest, BothSpellingsOfTheDType) {
  EXPECT_EQ(Parsed(With(R"("dtype":"bfloat16")")).dtype, kernels::DType::kBFloat16);
  EXPECT_EQ(Parsed(With(R"("torch_dtype":"float16")")).dtype, kernels::DType::kFloat16);
  EXPECT_EQ(Parsed(With(R"("dtype":"bfloat16","torch_dtype":"float32")")).dtype,
            kernels::DType::kBFloat16);
  EXPECT_EQ(Parsed(With(R"("dtype":null,"torch_dtype":null)")).dtype, kernels::DType::kFloat32);
}

TEST(ModelConfigTest, HeadsOfOddShapes) {
  const ModelConfig few =
      Parsed(With(R"("num_key_value_heads":4,"tie_word_embeddings":true,"layer_norm_eps":1e-6)"));
  EXPECT_EQ(few.num_key_value_heads, 4);
  EXPECT_TRUE(few.tie_word_embeddings);
  EXPECT_EQ(few.layer_norm_eps, 1e-6F);
  // modeling_phi.py takes hidden_size // num_attention_heads, or head_dim where the config has one.
  EXPECT_EQ(Parsed(With(R"("hidden_size":100,"num_attention_heads":3)")).head_dim, 33);
  EXPECT_EQ(Parsed(With(R"("hidden_size":100,"num_attention_heads":3,"head_dim":12)")).head_dim,
            12);
  EXPECT_EQ(Parsed(With(R"("head_dim":80,"partial_rotary_factor":0.4)")).rotary_dim, 32);  // phi-2
  EXPECT_EQ(Parsed(With(R"("partial_rotary_factor":0)")).rotary_dim, 0);
  EXPECT_EQ(Parsed(With(R"("partial_rotary_factor":1)")).rotary_dim, 64);
}

struct RefusedConfig {
  std::string text;
  const char* message;
};

void PrintTo(const RefusedConfig& config, std::ostream* out) { *out << config.message; }

// Each dimension with values that are no count, or too large a one.
std::vector<RefusedConfig> RefusedDimensions() {
  std::vector<RefusedConfig> rows;
  for (const char* field : {"vocab_size",
                            "hidden_size",
                            "intermediate_size",
                            "num_hidden_layers",
                            "num_attention_heads",
                            "max_position_embeddings"}) {
    for (const char* value : {"0",
                              "-1",
                              "2048.0",
                              "1e3",
                              "\"2048\"",
                              "true",
                              "null",
                              "[1]",
                              "2147483647",
                              "4294967297",
                              "99999999999999999999999",
                              "-9223372036854775808"}) {
      rows.push_back({With(absl::StrCat("\"", field, "\":", value)), field});
    }
  }
  return rows;
}

std::vector<RefusedConfig> RefusedConfigs() {
  std::vector<RefusedConfig> rows = RefusedDimensions();
  const std::vector<RefusedConfig> others = {
      {"", "not valid JSON"},
      {"[]", "not a JSON object"},
      {"{\"model_type\":\"phi\"", "not valid JSON"},
      {"{\"model_type\":\"\xFF\"}", "not valid JSON"},
      {R"({"model_type":"phi","vocab_size":NaN})", "not valid JSON"},
      {With(R"("vocab_size":100,"vocab_size":200)"), "the key vocab_size comes twice"},
      {With("\"x\":" + std::string(100'000, '[')), "nested too deep"},
      {"{}", "`model_type` is missing"},
      {R"({"model_type":"phi3"})", "`model_type`"},
      {R"({"model_type":7})", "`model_type`"},
      {With(R"("architectures":["PhiForSequenceClassification"])"), "`architectures`"},
      {With(R"("architectures":"PhiForCausalLM")"), "`architectures`"},
      {With(R"("hidden_act":"gelu")"), "`hidden_act`"},
      {With(R"("hidden_act":null)"), "`hidden_act`"},
      {With(R"("qk_layernorm":true)"), "`qk_layernorm`"},
      {With(R"("qk_layernorm":1)"), "`qk_layernorm`"},
      {With(R"("tie_word_embeddings":"yes")"), "`tie_word_embeddings`"},
      {With(R"("quantization_config":{"bits":4})"), "`quantization_config`"},
      {With(R"("num_key_value_heads":5)"), "`num_key_value_heads`"},
      {With(R"("num_key_value_heads":64)"), "`num_key_value_heads`"},
      {With(R"("num_key_value_heads":0)"), "`num_key_value_heads`"},
      {With(R"("head_dim":0)"), "`head_dim`"},
      {With(R"("head_dim":1025)"), "`head_dim`"},
      {With(R"("hidden_size":16)"), "`num_attention_heads`"},
      {With(R"("num_attention_heads":4096,"head_dim":1024)"), "`num_attention_heads`"},
      {With(R"("num_attention_heads":1,"hidden_size":2048)"), "`num_attention_heads`"},
      {With(R"("partial_rotary_factor":0.55)"), "`partial_rotary_factor`"},
      {With(R"("partial_rotary_factor":-0.5)"), "`partial_rotary_factor`"},
      {With(R"("partial_rotary_factor":1.5)"), "`partial_rotary_factor`"},
      {With(R"("partial_rotary_factor":"0.5")"), "`partial_rotary_factor`"},
      {With(R"("rope_theta":0)"), "`rope_theta`"},
      {With(R"("rope_theta":-1)"), "`rope_theta`"},
      {With(R"("rope_theta":1e-60)"), "`rope_theta`"},
      {With(R"("layer_norm_eps":1e-60)"), "`layer_norm_eps`"},
      {With(R"("rope_theta":1e300)"), "`rope_theta`"},
      {With(R"("rope_theta":null)"), "`rope_theta`"},
      {With(R"("rope_parameters":{"rope_theta":true})"), "`rope_theta`"},
      {With(R"("rope_parameters":[])"), "`rope_parameters`"},
      {With(R"("rope_parameters":{"rope_type":"yarn","factor":2})"), "`rope_parameters`"},
      {With(R"("rope_parameters":{"rope_type":"default","factor":2})"), "the key factor"},
      {With(R"("rope_scaling":{"type":"linear","factor":2.0})"), "`rope_scaling`"},
      {With(R"("rope_scaling":{"rope_type":"dynamic","type":"default"})"), "`rope_scaling`"},
      {With(R"("layer_norm_eps":0)"), "`layer_norm_eps`"},
      {With(R"("layer_norm_eps":"1e-5")"), "`layer_norm_eps`"},
      {With(R"("dtype":"int8")"), "`dtype`"},
      {With(R"("torch_dtype":"float64")"), "`torch_dtype`"},
      {With(R"("torch_dtype":32)"), "`torch_dtype`"},
  };
  rows.insert(rows.end(), others.begin(), others.end());
  return rows;
}

class ModelConfigRefusalTest : public ::testing::TestWithParam<RefusedConfig> {};

TEST_P(ModelConfigRefusalTest, NamesTheField) {
  const absl::StatusOr<ModelConfig> config = ParseModelConfig(GetParam().text);
  ASSERT_FALSE(config.ok()) << GetParam().text;
  EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument);
  const std::string message(config.status().message());
  EXPECT_THAT(message, HasSubstr(GetParam().message)) << GetParam().text.substr(0, 200);
  EXPECT_LT(message.size(), 500U);
}

INSTANTIATE_TEST_SUITE_P(Rows, ModelConfigRefusalTest, ::testing::ValuesIn(RefusedConfigs()));

TEST(ModelConfigTest, ErrorsOfAFileNameIt) {
  const ScratchDir dir;
  EXPECT_EQ(ReadModelConfig(dir.path()).status().code(), absl::StatusCode::kNotFound);
  dir.Write("config.json", R"({"model_type":"llama"})");
  EXPECT_THAT(std::string(ReadModelConfig(dir.path()).status().message()),
              HasSubstr("/config.json: field `model_type`"));
  dir.Write("config.json", std::string((1 << 20) + 1, ' '));
  EXPECT_THAT(std::string(ReadModelConfig(dir.path()).status().message()),
              HasSubstr("at most 1048576"));
  dir.Write("config.json", kPhi1);
  EXPECT_EQ(ReadModelConfig(dir.path()).value(), Phi1());
}

}  // namespace
}  // namespace phi::shard
