// Our log-probabilities and greedy choices against Hugging Face's, which
// tools/golden/model_golden.py stored.
#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"
#include "tests/parallel/rank_group.h"
#include "tools/make_checkpoint/random_checkpoint.h"

namespace phi::shard {
namespace {

using nlohmann::json;

// The project's promise for float32.
constexpr double kFloat32Tolerance = 1e-4;

const json& Answers() {
  static const auto* answers = [] {
    std::ifstream file(PHI_SOURCE_DIR "/tests/golden/model_answers.json");
    return new json(json::parse(file));
  }();
  return *answers;
}

std::string Sha256OfFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  EXPECT_EQ(EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, EVP_sha256(), nullptr), 1);
  return absl::BytesToHexString({reinterpret_cast<const char*>(digest.data()), size});
}

tools::ModelShape ShapeOf(const json& shape) {
  return {.vocab_size = shape["vocab_size"],
          .hidden_size = shape["hidden_size"],
          .intermediate_size = shape["intermediate_size"],
          .num_hidden_layers = shape["num_hidden_layers"],
          .num_attention_heads = shape["num_attention_heads"],
          .num_key_value_heads = shape["num_key_value_heads"].get<int64_t>(),
          .head_dim = shape["head_dim"].get<int64_t>(),
          .max_position_embeddings = shape["max_position_embeddings"],
          .partial_rotary_factor = shape["partial_rotary_factor"],
          .rope_theta = shape["rope_theta"],
          .layer_norm_eps = shape["layer_norm_eps"],
          .tie_word_embeddings = shape["tie_word_embeddings"],
          .dtype = shape["dtype"]};
}

void MakeCheckpoint(const json& golden, const std::string& dir) {
  const bool top = golden["config_style"] == "top";
  const absl::Status status = tools::WriteRandomCheckpoint(
      {.dir = dir,
       .shape = ShapeOf(golden["shape"]),
       .style = top ? tools::ConfigStyle::kTopLevel : tools::ConfigStyle::kRopeParameters,
       .seed = golden["seed"],
       .tokenizer_path = "",
       .on_progress = {}});
  ASSERT_TRUE(status.ok()) << status;
  ASSERT_EQ(Sha256OfFile(dir + "/model.safetensors"), golden["weights_sha256"])
      << "tools/make_checkpoint makes other bytes than when the answers were stored: store them "
         "anew";
}

// The stored prompt, going on with Hugging Face's own choices.
Prompt PromptOf(const json& golden) {
  const size_t num_steps = std::min<size_t>(golden["steps"].size(), IsEmulated() ? 6 : 1000);
  Prompt prompt{.ids = golden["prompt"],
                .sampling = {.num_top_logprobs = kTopLogprobsMax, .want_logprobs = true},
                .num_new_tokens = static_cast<uint32_t>(num_steps)};
  for (const json& step : golden["steps"]) prompt.forced.push_back(step["id"]);
  return prompt;
}

struct Deviation {
  double largest = 0;
  double root_mean_square = 0;
};

// Compares each step; log-probabilities that only one side lists are below the other's last one,
// within `tolerance`.
Deviation Compare(const std::vector<SampledToken>& ours, const json& steps, double tolerance) {
  Deviation deviation;
  double squares = 0;
  int compared = 0;
  for (size_t i = 0; i < ours.size(); ++i) {
    const json& step = steps[i];
    if (step["margin"] > 2 * tolerance) {
      EXPECT_EQ(ours[i].token_id, step["id"].get<uint32_t>()) << "step " << i;
    }
    std::map<uint32_t, double> listed;
    for (const TokenLogprob& entry : ours[i].top)
      listed[entry.token_id] = static_cast<double>(entry.logprob);
    for (const json& entry : step["top"]) {
      const auto found = listed.find(entry[0]);
      if (found == listed.end()) {
        EXPECT_LE(entry[1], static_cast<double>(ours[i].top.back().logprob) + tolerance)
            << "step " << i;
        continue;
      }
      const double difference = std::abs(found->second - entry[1].get<double>());
      EXPECT_TRUE(std::isfinite(difference)) << "step " << i;  // max() passes over a NaN
      deviation.largest = std::max(deviation.largest, difference);
      squares += difference * difference;
      ++compared;
    }
  }
  EXPECT_GT(compared, 15 * static_cast<int>(ours.size()));
  deviation.root_mean_square = std::sqrt(squares / compared);
  return deviation;
}

// Those that keep I1, and what serves by default where that is another.
std::vector<RankKind> Ranks(kernels::DType dtype) {
  std::vector<RankKind> kinds = InvariantRanks(dtype);
  const RankKind standard = DefaultRanks(dtype);
  const bool listed = std::any_of(
      kinds.begin(), kinds.end(), [&](const RankKind& kind) { return kind.name == standard.name; });
  if (!listed) kinds.push_back(standard);
  return kinds;
}

class ModelGolden : public testing::TestWithParam<size_t> {
 protected:
  void SetUp() override {
    golden_ = Answers()["cases"][GetParam()];
    MakeCheckpoint(golden_, dir_.path());
  }

  std::vector<SampledToken> Answer(const RankKind& ranks) {
    const GroupOptions options{.model_dir = dir_.path(),
                               .make_rank = ranks.maker(1),
                               .num_real_tokens = golden_["num_real_tokens"]};
    RankGroup group(options);
    return Generate(group, {PromptOf(golden_)}, {}, options.limits.num_kv_blocks)[0];
  }

  TemporaryDir dir_;
  json golden_;
};

TEST_P(ModelGolden, Float32IsWithinTheTolerance) {
  for (const RankKind& ranks : Ranks(kernels::DType::kFloat32)) {
    const Deviation deviation = Compare(Answer(ranks), golden_["steps"], kFloat32Tolerance);
    EXPECT_LE(deviation.largest, kFloat32Tolerance) << ranks.name;
    std::printf("%s float32 %s: largest difference %.1e\n",
                golden_["name"].get<std::string>().c_str(),
                ranks.name.c_str(),
                deviation.largest);
  }
}

// Rounding to bfloat16 moves a value by at most 2^-9 of it. Roundings are independent, and a sum of
// products moves by as large a share of its own deviation as its factors do. A layer rounds at
// eight places: weights and inputs of both products, queries, keys, values and attention weights;
// the head at two, the embedding at one. LayerNorm keeps the scale, so each moves a logit by at
// most 2^-9 of the logits' deviation: all of them, in the root mean square, by deviation * 2^-9 *
// sqrt(8 num_layers + 3). The largest of the 400 compared values is held to 4 times that.
TEST_P(ModelGolden, BFloat16IsWithinTheDerivedBound) {
  const double num_layers = golden_["shape"]["num_hidden_layers"];
  const double deviation_of_logits = golden_["logit_deviation"];
  const double root_mean_square = deviation_of_logits * 0x1p-9 * std::sqrt(8 * num_layers + 3);
  for (const RankKind& ranks : Ranks(kernels::DType::kBFloat16)) {
    const Deviation deviation = Compare(Answer(ranks), golden_["steps"], 4 * root_mean_square);
    EXPECT_LE(deviation.root_mean_square, root_mean_square) << ranks.name;
    EXPECT_LE(deviation.largest, 4 * root_mean_square) << ranks.name;
    std::printf("%s bfloat16 %s: largest difference %.1e of %.1e, root mean square %.1e of %.1e\n",
                golden_["name"].get<std::string>().c_str(),
                ranks.name.c_str(),
                deviation.largest,
                4 * root_mean_square,
                deviation.root_mean_square,
                root_mean_square);
  }
}

INSTANTIATE_TEST_SUITE_P(Cases,
                         ModelGolden,
                         testing::Range(size_t{0}, Answers()["cases"].size()),
                         [](const testing::TestParamInfo<size_t>& test) {
                           return Answers()["cases"][test.param]["name"].get<std::string>();
                         });

}  // namespace
}  // namespace phi::shard
