#include "shard/checkpoint/phi_tensors.h"

#include <algorithm>
#include <set>
#include <span>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/base/quoted.h"
#include "kernels/base/status_macros.h"

namespace phi::shard {
namespace {

void AddWithBias(std::vector<TensorSpec>& specs,
                 const std::string& module,
                 std::vector<int64_t> shape) {
  const int64_t outputs = shape.front();
  specs.push_back({.name = module + ".weight", .shape = std::move(shape)});
  specs.push_back({.name = module + ".bias", .shape = {outputs}});
}

std::string ShapeText(std::span<const int64_t> shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

// A long list is cut: the first few names show what is wrong.
std::string NamesText(const std::vector<std::string>& names) {
  constexpr size_t kShown = 5;
  const size_t shown = std::min(names.size(), kShown);
  std::string text =
      absl::StrJoin(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(shown), ", ");
  if (names.size() > shown) absl::StrAppend(&text, " and ", names.size() - shown, " more");
  return text;
}

absl::Status CheckTensor(const Checkpoint& checkpoint,
                         std::string_view name,
                         const std::vector<int64_t>& shape) {
  PHI_ASSIGN_OR_RETURN(const TensorView tensor, checkpoint.Find(name));
  if (std::ranges::equal(tensor.shape, shape)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("tensor ",
                                                 std::string(name),
                                                 " has shape ",
                                                 ShapeText(tensor.shape),
                                                 ", but config.json makes it ",
                                                 ShapeText(shape)));
}

}  // namespace

std::string LayerTensorName(int layer, std::string_view tensor) {
  return absl::StrCat("model.layers.", layer, ".", std::string(tensor));
}

std::vector<TensorSpec> PhiTensors(const ModelConfig& config) {
  const int64_t hidden = config.hidden_size;
  const int64_t query_rows = int64_t{config.num_heads} * config.head_dim;
  const int64_t key_value_rows = int64_t{config.num_key_value_heads} * config.head_dim;
  std::vector<TensorSpec> specs;
  specs.push_back({.name = std::string(kEmbeddingTensor), .shape = {config.vocab_size, hidden}});
  for (int layer = 0; layer < config.num_layers; ++layer) {
    const auto name = [layer](std::string_view module) { return LayerTensorName(layer, module); };
    AddWithBias(specs, name("self_attn.q_proj"), {query_rows, hidden});
    AddWithBias(specs, name("self_attn.k_proj"), {key_value_rows, hidden});
    AddWithBias(specs, name("self_attn.v_proj"), {key_value_rows, hidden});
    AddWithBias(specs, name("self_attn.dense"), {hidden, query_rows});
    AddWithBias(specs, name("mlp.fc1"), {config.intermediate_size, hidden});
    AddWithBias(specs, name("mlp.fc2"), {hidden, config.intermediate_size});
    AddWithBias(specs, name("input_layernorm"), {hidden});
  }
  AddWithBias(specs, std::string(kFinalNorm), {hidden});
  if (!config.tie_word_embeddings)
    specs.push_back({.name = std::string(kHeadTensor), .shape = {config.vocab_size, hidden}});
  specs.push_back({.name = std::string(kHeadBiasTensor), .shape = {config.vocab_size}});
  return specs;
}

TiedTensors FindTiedTensors(const Checkpoint& checkpoint, const ModelConfig& config) {
  TiedTensors tensors;
  if (!config.tie_word_embeddings) return tensors;
  if (!checkpoint.Contains(kHeadTensor)) tensors.head = kEmbeddingTensor;
  if (!checkpoint.Contains(kEmbeddingTensor) && checkpoint.Contains(kHeadTensor))
    tensors.embedding = kHeadTensor;
  return tensors;
}

absl::Status CheckPhiTensors(const Checkpoint& checkpoint, const ModelConfig& config) {
  const TiedTensors tied = FindTiedTensors(checkpoint, config);
  std::vector<TensorSpec> specs = PhiTensors(config);
  specs.front().name = tied.embedding;
  if (config.tie_word_embeddings)
    specs.push_back({.name = std::string(tied.head), .shape = specs.front().shape});

  std::set<std::string_view> known;
  std::vector<std::string> missing;
  for (const TensorSpec& spec : specs) {
    known.insert(spec.name);
    if (!checkpoint.Contains(spec.name)) missing.push_back(spec.name);
  }
  std::vector<std::string> extra;
  for (const std::string_view name : checkpoint.TensorNames()) {
    if (!known.contains(name) && !name.ends_with("rotary_emb.inv_freq"))
      extra.push_back(Quoted(name));
  }
  std::string problem;
  if (!missing.empty())
    absl::StrAppend(
        &problem, "tensors that config.json asks for are missing: ", NamesText(missing));
  if (!extra.empty()) {
    absl::StrAppend(&problem,
                    problem.empty() ? "" : "; ",
                    "tensors that config.json knows nothing of: ",
                    NamesText(extra));
  }
  if (!problem.empty()) return absl::InvalidArgumentError(problem);
  for (const TensorSpec& spec : specs)
    PHI_RETURN_IF_ERROR(CheckTensor(checkpoint, spec.name, spec.shape));
  return absl::OkStatus();
}

}  // namespace phi::shard
