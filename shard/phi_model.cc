#include "shard/phi_model.h"

#include <cmath>
#include <span>
#include <utility>
#include <vector>

#include "kernels/base/status_macros.h"

namespace phi::shard {
namespace {

using kernels::DeviceBuffer;

float* Floats(const std::unique_ptr<DeviceBuffer>& buffer) {
  return reinterpret_cast<float*>(buffer->data());
}

// Bytes of each buffer of one step at its maximum.
struct BufferSizes {
  size_t rotary;
  size_t hidden;
  size_t normed;
  size_t qkv;
  size_t branches;
  size_t partial;
  size_t logits;

  size_t total() const { return rotary + hidden + normed + qkv + branches + partial + logits; }
};

BufferSizes SizesOf(const ModelConfig& config,
                    const RankPartition& partition,
                    const StepRowLimits& limits,
                    kernels::DType operand) {
  const kernels::AttentionShape shape = LocalAttentionShape(config, partition);
  const auto matrix = [](int64_t rows, int64_t cols, size_t element) {
    return static_cast<size_t>(rows) * static_cast<size_t>(cols) * element;
  };
  const size_t operand_bytes = kernels::DTypeBytes(operand);
  return {
      .rotary = matrix(config.max_positions, config.rotary_dim, sizeof(float)),
      .hidden = matrix(limits.rows, config.hidden_size, sizeof(float)),
      .normed = matrix(limits.rows, config.hidden_size, operand_bytes),
      .qkv = matrix(limits.rows, shape.qkv_cols(), sizeof(float)),
      .branches =
          matrix(limits.rows, shape.query_cols() + partition.mlp_columns.size(), operand_bytes),
      .partial = matrix(limits.rows, config.hidden_size, sizeof(float)),
      .logits = matrix(limits.logits_rows, partition.vocab_rows.size(), sizeof(float)),
  };
}

// For each position the cosines of position * theta^(-2i / rotary_dim), i = 0 .. rotary_dim/2 - 1,
// then the sines. Source: Hugging Face modeling_phi.py, PhiRotaryEmbedding. Angles are rounded to
// float32 where it rounds them, because at position 2000 one rounding moves an angle by 1e-4.
std::vector<float> RotaryTable(const ModelConfig& config) {
  const int pairs = config.rotary_dim / 2;
  std::vector<float> table;
  table.reserve(static_cast<size_t>(config.max_positions) * static_cast<size_t>(config.rotary_dim));
  std::vector<float> frequencies;
  for (int i = 0; i < pairs; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(config.rotary_dim);
    frequencies.push_back(1.0F / std::pow(config.rope_theta, exponent));
  }
  for (int position = 0; position < config.max_positions; ++position) {
    const auto angle = [&](int i) {
      return static_cast<double>(static_cast<float>(position) *
                                 frequencies[static_cast<size_t>(i)]);
    };
    for (int i = 0; i < pairs; ++i) table.push_back(static_cast<float>(std::cos(angle(i))));
    for (int i = 0; i < pairs; ++i) table.push_back(static_cast<float>(std::sin(angle(i))));
  }
  return table;
}

}  // namespace

PhiModel::PhiModel(Parts parts)
    : parts_(std::move(parts)), shape_(LocalAttentionShape(parts_.config, parts_.partition)) {}

absl::StatusOr<std::unique_ptr<PhiModel>> PhiModel::Create(Parts parts) {
  auto model = std::unique_ptr<PhiModel>(new PhiModel(std::move(parts)));
  const Parts& p = model->parts_;
  kernels::Backend& backend = *p.backend;
  const BufferSizes sizes = SizesOf(p.config, p.partition, p.limits, backend.dtype());
  Buffers& buffers = model->buffers_;
  PHI_ASSIGN_OR_RETURN(buffers.rotary, backend.UploadFloats(RotaryTable(p.config)));
  PHI_ASSIGN_OR_RETURN(buffers.hidden, backend.Allocate(sizes.hidden));
  PHI_ASSIGN_OR_RETURN(buffers.normed, backend.Allocate(sizes.normed));
  PHI_ASSIGN_OR_RETURN(buffers.qkv, backend.Allocate(sizes.qkv));
  PHI_ASSIGN_OR_RETURN(buffers.branches, backend.Allocate(sizes.branches));
  PHI_ASSIGN_OR_RETURN(buffers.partial, backend.Allocate(sizes.partial));
  PHI_ASSIGN_OR_RETURN(buffers.logits, backend.Allocate(sizes.logits));

  const int64_t query_cols = model->shape_.query_cols();
  const int64_t branch_cols = query_cols + p.partition.mlp_columns.size();
  const auto mlp_offset = static_cast<size_t>(query_cols) * kernels::DTypeBytes(backend.dtype());
  model->normed_ = {.data = buffers.normed->data(), .stride = p.config.hidden_size};
  model->branches_ = {.data = buffers.branches->data(), .stride = branch_cols};
  model->mlp_branch_ = {.data = buffers.branches->data() + mlp_offset, .stride = branch_cols};
  return model;
}

size_t PhiModel::ActivationBytes(const ModelConfig& config,
                                 const RankPartition& partition,
                                 const StepRowLimits& limits,
                                 const kernels::MemoryLayout& layout) {
  return SizesOf(config, partition, limits, layout.dtype()).total();
}

float* PhiModel::local_logits() const { return Floats(buffers_.logits); }

kernels::NormWeights PhiModel::Norm(int layer) const {
  const PhiWeights& weights = parts_.weights;
  const bool is_final = layer == parts_.config.num_layers;
  const NormBuffers& norm =
      is_final ? weights.final_norm : weights.layers[static_cast<size_t>(layer)].norm;
  return norm.View(parts_.config.layer_norm_eps);
}

// x -> Phi(x): embedding, num_layers layers, final LayerNorm, head.
absl::Status PhiModel::Forward(const kernels::StepBatch& batch) {
  kernels::Backend& backend = *parts_.backend;
  const PhiWeights& weights = parts_.weights;
  const int64_t hidden_size = parts_.config.hidden_size;
  float* x = Floats(buffers_.hidden);

  backend.BeginStep(batch);
  for (int layer = 0; layer < parts_.config.num_layers && !batch.block_copies.empty(); ++layer) {
    backend.CopyKvBlocks(shape_, parts_.kv_cache.Layer(layer));
  }
  backend.Embed(*weights.embedding, hidden_size, x);
  backend.LayerNorm(x, hidden_size, Norm(0), normed_);
  for (int layer = 0; layer < parts_.config.num_layers; ++layer) {
    PHI_RETURN_IF_ERROR(ForwardLayer(layer, Norm(layer + 1), batch.num_rows()));
  }
  if (weights.head != nullptr && batch.num_logits_rows() > 0) {
    backend.LmHead(normed_, *weights.head, Floats(weights.head_bias), Floats(buffers_.logits));
  }
  return backend.FinishStep();
}

// One decoder layer; attention and MLP in parallel.
// Source: Hugging Face modeling_phi.py, PhiDecoderLayer.
//
//   n        = LayerNorm(x)
//   [q k v u] = n W_in^T + b_in                    W_in  = [Wq; Wk; Wv; W1] of this rank
//   a        = softmax(rotary(q) rotary(K)^T / sqrt(head_dim)) V
//   partial  = [a | gelu_new(u)] W_out^T           W_out = [Wo | W2] of this rank
//   x        = x + AllReduceSum(partial) + b_out   b_out = bo + b2, once, after the reduce
//
// n comes in as normed_, where the LayerNorm of the layer before left it: each layer ends with
// `next_norm`, in one pass over x with the residual. Both branches end in one product and one sum,
// so the group needs ONE all-reduce a layer.
absl::Status PhiModel::ForwardLayer(int layer,
                                    const kernels::NormWeights& next_norm,
                                    int64_t num_rows) {
  const LayerWeights& weights = parts_.weights.layers[static_cast<size_t>(layer)];
  const kernels::KvLayer cache = parts_.kv_cache.Layer(layer);
  const int64_t hidden_size = parts_.config.hidden_size;
  kernels::Backend& backend = *parts_.backend;
  float* x = Floats(buffers_.hidden);         // [T, hidden_size]
  float* qkv = Floats(buffers_.qkv);          // [T, local qkv_cols]
  float* partial = Floats(buffers_.partial);  // [T, hidden_size]
  const std::span<float> sum(partial, static_cast<size_t>(num_rows * hidden_size));

  // [T, hidden_size] x [hidden_size, local qkv_cols + mlp_cols]; gelu_new on the way out
  backend.InProjection(
      normed_, *weights.w_in, Floats(weights.b_in), shape_.qkv_cols(), qkv, mlp_branch_);
  backend.RotaryAndCacheWrite(shape_, Floats(buffers_.rotary), qkv, cache);
  backend.PagedAttention(shape_, qkv, cache, branches_);
  // [T, local query_cols + mlp_cols] x [local query_cols + mlp_cols, hidden_size]
  backend.OutProjection(branches_, *weights.w_out, partial);
  PHI_RETURN_IF_ERROR(parts_.communicator->AllReduceSum(sum));
  backend.ResidualLayerNorm(x, partial, Floats(weights.b_out), hidden_size, next_norm, normed_);
  return absl::OkStatus();
}

}  // namespace phi::shard
