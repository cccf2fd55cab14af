#include "shard/phi_weights.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_format.h"
#include "kernels/base/status_macros.h"
#include "shard/checkpoint/elements.h"
#include "shard/checkpoint/phi_tensors.h"

namespace phi::shard {
namespace {

using kernels::DeviceBuffer;
using kernels::PackedMatrix;
using kernels::WeightSlice;

// A rectangle of a named tensor and where it lands.
struct Piece {
  std::string name;
  Range rows;
  Range cols;
  int64_t to_row = 0;
  int64_t to_col = 0;
};

Range HeadRows(Range heads, int64_t head_dim) {
  return {.begin = heads.begin * head_dim, .end = heads.end * head_dim};
}

absl::Status NonfiniteError(const TensorView& tensor, int64_t index) {
  const int64_t cols = tensor.shape.back();
  const std::string name(tensor.name);
  if (tensor.shape.size() == 1) {
    return absl::InvalidArgumentError(
        absl::StrFormat("tensor %s: element %d is NaN or infinite", name, index));
  }
  return absl::InvalidArgumentError(
      absl::StrFormat("tensor %s: the element in row %d, column %d is NaN or infinite",
                      name,
                      index / cols,
                      index % cols));
}

// Refuses NaN and infinity in rows x cols of a matrix, or in the elements `cols` of a vector (rows
// = [0, 1)).
absl::Status VerifyFinite(const TensorView& tensor,
                          Range rows,
                          Range cols,
                          kernels::DType computed) {
  const int64_t stride = tensor.shape.back();
  const auto element = static_cast<int64_t>(kernels::DTypeBytes(tensor.dtype));
  const bool whole_rows = cols.size() == stride;
  const int64_t num_runs = whole_rows ? 1 : rows.size();
  const int64_t run = whole_rows ? rows.size() * stride : cols.size();
  for (int64_t i = 0; i < num_runs; ++i) {
    const int64_t first = (rows.begin + i) * stride + cols.begin;
    const auto bytes = tensor.bytes.subspan(static_cast<size_t>(first * element),
                                            static_cast<size_t>(run * element));
    if (const std::optional<size_t> bad = FirstNonfinite(bytes, tensor.dtype, computed)) {
      return NonfiniteError(tensor, first + static_cast<int64_t>(*bad));
    }
  }
  return absl::OkStatus();
}

class Loader {
 public:
  Loader(const Checkpoint& checkpoint,
         const ModelConfig& config,
         const RankPartition& partition,
         kernels::Backend& backend,
         const PhiWeightsOptions& options)
      : checkpoint_(checkpoint),
        config_(config),
        partition_(partition),
        backend_(backend),
        options_(options) {}

  absl::StatusOr<PhiWeights> Load() {
    const TiedTensors tied = FindTiedTensors(checkpoint_, config_);
    PhiWeights weights;
    PHI_ASSIGN_OR_RETURN(weights.embedding, Table(tied.embedding));
    PHI_RETURN_IF_ERROR(LoadHead(tied.head, weights));
    PHI_ASSIGN_OR_RETURN(weights.final_norm, Norm(std::string(kFinalNorm)));
    weights.layers.reserve(static_cast<size_t>(config_.num_layers));
    for (int layer = 0; layer < config_.num_layers; ++layer) {
      PHI_ASSIGN_OR_RETURN(weights.layers.emplace_back(), Layer(layer));
    }
    return weights;
  }

 private:
  absl::StatusOr<LayerWeights> Layer(int layer) {
    const auto name = [layer](std::string_view tensor) { return LayerTensorName(layer, tensor); };
    const Range queries = HeadRows(partition_.heads, config_.head_dim);
    const Range keys = HeadRows(partition_.key_value_heads, config_.head_dim);
    const Range mlp = partition_.mlp_columns;
    const Range hidden = {.begin = 0, .end = config_.hidden_size};
    const int64_t qkv_rows = queries.size() + 2 * keys.size();

    LayerWeights weights;
    PHI_ASSIGN_OR_RETURN(weights.norm, Norm(name("input_layernorm")));
    PHI_ASSIGN_OR_RETURN(
        weights.w_in,
        Pack(qkv_rows + mlp.size(),
             hidden.size(),
             {{.name = name("self_attn.q_proj.weight"), .rows = queries, .cols = hidden},
              {.name = name("self_attn.k_proj.weight"),
               .rows = keys,
               .cols = hidden,
               .to_row = queries.size()},
              {.name = name("self_attn.v_proj.weight"),
               .rows = keys,
               .cols = hidden,
               .to_row = queries.size() + keys.size()},
              {.name = name("mlp.fc1.weight"), .rows = mlp, .cols = hidden, .to_row = qkv_rows}}));
    PHI_ASSIGN_OR_RETURN(
        weights.w_out,
        Pack(hidden.size(),
             queries.size() + mlp.size(),
             {{.name = name("self_attn.dense.weight"), .rows = hidden, .cols = queries},
              {.name = name("mlp.fc2.weight"),
               .rows = hidden,
               .cols = mlp,
               .to_col = queries.size()}}));
    std::vector<float> bias;
    PHI_RETURN_IF_ERROR(ReadFloats(name("self_attn.q_proj.bias"), queries, bias));
    PHI_RETURN_IF_ERROR(ReadFloats(name("self_attn.k_proj.bias"), keys, bias));
    PHI_RETURN_IF_ERROR(ReadFloats(name("self_attn.v_proj.bias"), keys, bias));
    PHI_RETURN_IF_ERROR(ReadFloats(name("mlp.fc1.bias"), mlp, bias));
    PHI_ASSIGN_OR_RETURN(weights.b_in, backend_.UploadFloats(bias));

    std::vector<float> attention_bias;
    std::vector<float> mlp_bias;
    PHI_RETURN_IF_ERROR(ReadFloats(name("self_attn.dense.bias"), hidden, attention_bias));
    PHI_RETURN_IF_ERROR(ReadFloats(name("mlp.fc2.bias"), hidden, mlp_bias));
    std::ranges::transform(attention_bias, mlp_bias, attention_bias.begin(), std::plus<>());
    PHI_ASSIGN_OR_RETURN(weights.b_out, backend_.UploadFloats(attention_bias));
    return weights;
  }

  absl::Status LoadHead(std::string_view name, PhiWeights& weights) {
    const Range rows = partition_.vocab_rows;
    if (rows.size() == 0) return absl::OkStatus();
    const Range hidden = {.begin = 0, .end = config_.hidden_size};
    PHI_ASSIGN_OR_RETURN(weights.head,
                         Pack(rows.size(),
                              hidden.size(),
                              {{.name = std::string(name), .rows = rows, .cols = hidden}}));
    std::vector<float> bias;
    PHI_RETURN_IF_ERROR(ReadFloats(kHeadBiasTensor, rows, bias));
    PHI_ASSIGN_OR_RETURN(weights.head_bias, backend_.UploadFloats(bias));
    return absl::OkStatus();
  }

  absl::StatusOr<std::unique_ptr<DeviceBuffer>> Table(std::string_view name) {
    const Piece piece = {.name = std::string(name),
                         .rows = {.begin = 0, .end = config_.vocab_size},
                         .cols = {.begin = 0, .end = config_.hidden_size}};
    PHI_RETURN_IF_ERROR(checkpoint_.CheckUnchanged());
    PHI_ASSIGN_OR_RETURN(const WeightSlice slice, Slice(piece));
    absl::StatusOr<std::unique_ptr<DeviceBuffer>> table = backend_.UploadTable(slice);
    PHI_RETURN_IF_ERROR(DropPages({&piece, 1}));
    return table;
  }

  absl::StatusOr<NormBuffers> Norm(const std::string& module) {
    const Range hidden = {.begin = 0, .end = config_.hidden_size};
    NormBuffers norm;
    std::vector<float> gamma;
    PHI_RETURN_IF_ERROR(ReadFloats(module + ".weight", hidden, gamma));
    PHI_ASSIGN_OR_RETURN(norm.gamma, backend_.UploadFloats(gamma));
    std::vector<float> beta;
    PHI_RETURN_IF_ERROR(ReadFloats(module + ".bias", hidden, beta));
    PHI_ASSIGN_OR_RETURN(norm.beta, backend_.UploadFloats(beta));
    return norm;
  }

  absl::StatusOr<std::unique_ptr<PackedMatrix>> Pack(int64_t rows,
                                                     int64_t cols,
                                                     const std::vector<Piece>& pieces) {
    PHI_RETURN_IF_ERROR(checkpoint_.CheckUnchanged());
    std::vector<WeightSlice> slices;
    for (const Piece& piece : pieces) {
      if (piece.rows.size() == 0 || piece.cols.size() == 0) continue;
      PHI_ASSIGN_OR_RETURN(slices.emplace_back(), Slice(piece));
    }
    absl::StatusOr<std::unique_ptr<PackedMatrix>> matrix = backend_.PackMatrix(rows, cols, slices);
    PHI_RETURN_IF_ERROR(DropPages(pieces));
    return matrix;
  }

  absl::StatusOr<WeightSlice> Slice(const Piece& piece) {
    PHI_ASSIGN_OR_RETURN(const TensorView tensor, checkpoint_.Find(piece.name));
    if (options_.verify) {
      PHI_RETURN_IF_ERROR(VerifyFinite(tensor, piece.rows, piece.cols, backend_.dtype()));
    }
    const int64_t stride = tensor.shape.back();
    const auto offset = static_cast<size_t>(piece.rows.begin * stride + piece.cols.begin);
    return WeightSlice{.data = tensor.bytes.data() + offset * kernels::DTypeBytes(tensor.dtype),
                       .dtype = tensor.dtype,
                       .rows = piece.rows.size(),
                       .cols = piece.cols.size(),
                       .row_stride = stride,
                       .to_row = piece.to_row,
                       .to_col = piece.to_col};
  }

  absl::Status DropPages(std::span<const Piece> pieces) {
    for (const Piece& piece : pieces) {
      PHI_ASSIGN_OR_RETURN(const TensorView tensor, checkpoint_.Find(piece.name));
      checkpoint_.DropPages(tensor);
    }
    return absl::OkStatus();
  }

  absl::Status ReadFloats(std::string_view name, Range range, std::vector<float>& values) {
    PHI_ASSIGN_OR_RETURN(const TensorView tensor, checkpoint_.Find(name));
    if (options_.verify) {
      constexpr Range kOneRow = {.begin = 0, .end = 1};
      PHI_RETURN_IF_ERROR(VerifyFinite(tensor, kOneRow, range, kernels::DType::kFloat32));
    }
    const size_t element = kernels::DTypeBytes(tensor.dtype);
    AppendFloats(tensor.bytes.subspan(static_cast<size_t>(range.begin) * element,
                                      static_cast<size_t>(range.size()) * element),
                 tensor.dtype,
                 values);
    return absl::OkStatus();
  }

  const Checkpoint& checkpoint_;
  const ModelConfig& config_;
  const RankPartition& partition_;
  kernels::Backend& backend_;
  const PhiWeightsOptions options_;
};

}  // namespace

kernels::NormWeights NormBuffers::View(float epsilon) const {
  return {.gamma = reinterpret_cast<const float*>(gamma->data()),
          .beta = reinterpret_cast<const float*>(beta->data()),
          .epsilon = epsilon};
}

kernels::AttentionShape LocalAttentionShape(const ModelConfig& config,
                                            const RankPartition& partition) {
  return {.num_heads = static_cast<int>(partition.heads.size()),
          .num_key_value_heads = static_cast<int>(partition.key_value_heads.size()),
          .head_dim = config.head_dim,
          .rotary_dim = config.rotary_dim};
}

size_t PhiWeightsBytes(const ModelConfig& config,
                       const RankPartition& partition,
                       const kernels::MemoryLayout& layout) {
  const kernels::AttentionShape shape = LocalAttentionShape(config, partition);
  const int64_t hidden = config.hidden_size;
  const int64_t in_rows = shape.qkv_cols() + partition.mlp_columns.size();
  const int64_t out_cols = shape.query_cols() + partition.mlp_columns.size();
  const int64_t vocab_rows = partition.vocab_rows.size();
  const auto floats = [](int64_t count) { return static_cast<size_t>(count) * sizeof(float); };

  const size_t norm = 2 * floats(hidden);
  const size_t layer = norm + layout.PackedMatrixBytes(in_rows, hidden) + floats(in_rows) +
                       layout.PackedMatrixBytes(hidden, out_cols) + floats(hidden);
  const size_t embedding =
      static_cast<size_t>(config.vocab_size * hidden) * kernels::DTypeBytes(layout.dtype());
  const size_t head =
      vocab_rows == 0 ? 0 : layout.PackedMatrixBytes(vocab_rows, hidden) + floats(vocab_rows);
  return embedding + static_cast<size_t>(config.num_layers) * layer + norm + head;
}

absl::StatusOr<PhiWeights> LoadPhiWeights(const Checkpoint& checkpoint,
                                          const ModelConfig& config,
                                          const RankPartition& partition,
                                          kernels::Backend& backend,
                                          const PhiWeightsOptions& options) {
  PHI_RETURN_IF_ERROR(CheckPhiTensors(checkpoint, config));
  return Loader(checkpoint, config, partition, backend, options).Load();
}

}  // namespace phi::shard
