#include <cuda_runtime_api.h>

#include <optional>
#include <utility>

#include "kernels/base/check.h"
#include "kernels/cuda/runtime/stream_backend.h"

// What StreamBackend queues between BeginStep() and FinishStep(), and TopCandidates().
namespace phi::kernels::cuda {

void StreamBackend::CopyKvBlocks(const AttentionShape& shape, KvLayer cache) {
  const size_t bytes = KvBlockBytes(shape) / 2;
  for (const KvBlockCopy& copy : block_copies_) {
    for (std::byte* blocks : {cache.keys, cache.values}) {
      Note(cudaMemcpyAsync(blocks + static_cast<size_t>(copy.to) * bytes,
                           blocks + static_cast<size_t>(copy.from) * bytes,
                           bytes,
                           cudaMemcpyDefault,
                           stream_.get()),
           "copying KV blocks");
    }
  }
}

void StreamBackend::Embed(const DeviceBuffer& table, int64_t hidden_size, float* hidden) {
  if (graphs_.Skips({&table, hidden})) return;
  FlushNorm();
  Note(cuda::Embed(context_,
                   static_cast<const DeviceMemory&>(table).data(),
                   upload_->tables().token_ids,
                   num_rows(),
                   hidden_size,
                   hidden),
       "Embed");
}

void StreamBackend::QueueNorm(const NormInput& norm, Operands out) {
  FlushNorm();
  pending_norm_ = {.norm = norm, .out = out};
  if (options_.batch_invariant || num_rows() > kMaxSmallRows) FlushNorm();
}

void StreamBackend::FlushNorm() {
  if (!pending_norm_.has_value()) return;
  Note(cuda::Normalize(context_, pending_norm_->norm, num_rows(), pending_norm_->out), "Normalize");
  pending_norm_.reset();
}

void StreamBackend::LayerNorm(const float* hidden,
                              int64_t hidden_size,
                              const NormWeights& norm,
                              Operands out) {
  if (graphs_.Skips({hidden, norm.gamma, out.data})) return;
  QueueNorm({.hidden = hidden,
             .gamma = norm.gamma,
             .beta = norm.beta,
             .size = static_cast<int32_t>(hidden_size),
             .epsilon = norm.epsilon},
            out);
}

void StreamBackend::ResidualLayerNorm(float* hidden,
                                      const float* partial,
                                      const float* bias,
                                      int64_t hidden_size,
                                      const NormWeights& norm,
                                      Operands out) {
  if (graphs_.Skips({hidden, partial, bias, norm.gamma, out.data})) return;
  QueueNorm({.hidden = hidden,
             .partial = partial,
             .bias = bias,
             .gamma = norm.gamma,
             .beta = norm.beta,
             .size = static_cast<int32_t>(hidden_size),
             .epsilon = norm.epsilon},
            out);
}

bool StreamBackend::CanMakeRows(Operands in, int64_t rows, const PackedMatrix& weight) const {
  return pending_norm_.has_value() && pending_norm_->out.data == in.data &&
         pending_norm_->norm.size == weight.cols() &&
         rows <= SmallProductRows(context_, PadPacked(weight.cols()), true);
}

void StreamBackend::MultiplyNormed(const NormInput& norm,
                                   int64_t rows,
                                   const PackedMatrix& weight,
                                   const ProductOutput& output) {
  Note(cuda::SmallProduct(context_,
                          {},
                          norm,
                          rows,
                          static_cast<const PackedDeviceMatrix&>(weight).weights(),
                          output),
       "SmallProduct");
  pending_norm_->was_read = true;
}

void StreamBackend::InProjection(Operands in,
                                 const PackedMatrix& weight,
                                 const float* bias,
                                 int64_t qkv_cols,
                                 float* qkv,
                                 Operands mlp) {
  if (graphs_.Skips({in.data, &weight, bias, qkv, mlp.data})) return;
  const ProductOutput output = {
      .bias = bias, .plain = qkv, .split = qkv_cols, .gelu = mlp.data, .gelu_stride = mlp.stride};
  if (CanMakeRows(in, num_rows(), weight)) {
    return MultiplyNormed(pending_norm_->norm, num_rows(), weight, output);
  }
  FlushNorm();
  Multiply({.data = in.data, .stride = in.stride}, num_rows(), weight, output);
}

void StreamBackend::OutProjection(Operands in, const PackedMatrix& weight, float* partial) {
  if (graphs_.Skips({in.data, &weight, partial})) return;
  ProductOutput output = {.plain = partial, .split = weight.rows()};
  if (pending_norm_.has_value()) {
    const NormInput& norm = pending_norm_->norm;
    const bool adds = norm.partial == partial && norm.size == weight.rows();
    if (pending_norm_->was_read && (adds || norm.partial == nullptr)) {
      // The product that read this sum is queued; now the residual stream may have it, before what
      // was added is overwritten.
      output.residual = adds ? const_cast<float*>(norm.hidden) : nullptr;
      output.residual_bias = norm.bias;
      pending_norm_.reset();
    } else {
      FlushNorm();
    }
  }
  Multiply({.data = in.data, .stride = in.stride}, num_rows(), weight, output);
}

void StreamBackend::LmHead(Operands in,
                           const PackedMatrix& weight,
                           const float* bias,
                           float* logits) {
  if (graphs_.Skips({in.data, &weight, bias, logits})) return;
  const ProductOutput output = {.bias = bias, .plain = logits, .split = weight.rows()};
  const int64_t rows = upload_->tables().num_logits_rows;
  if (rows == 0) return;
  if (CanMakeRows(in, rows, weight)) {
    NormInput norm = pending_norm_->norm;
    norm.row_index = upload_->tables().logits_rows;
    return MultiplyNormed(norm, rows, weight, output);
  }
  FlushNorm();
  Multiply({.data = in.data, .stride = in.stride, .row_index = upload_->tables().logits_rows},
           rows,
           weight,
           output);
}

void StreamBackend::RotaryAndCacheWrite(const AttentionShape& shape,
                                        const float* rotary,
                                        float* qkv,
                                        KvLayer cache) {
  if (graphs_.Skips({rotary, qkv, cache.keys, cache.values})) return;
  FlushRotary();
  pending_rotary_ = {.shape = shape, .qkv = qkv, .cache = cache, .rotary = rotary};
  // With shared key-value heads the decode kernel is not the one.
  const bool decodes = upload_->tables().num_rows > 0 && upload_->is_decode() &&
                       !options_.batch_invariant && shape.num_heads == shape.num_key_value_heads;
  if (!decodes) FlushRotary();
}

void StreamBackend::FlushRotary() {
  if (!pending_rotary_.has_value()) return;
  Note(cuda::RotaryAndCacheWrite(context_, upload_->tables(), *pending_rotary_),
       "RotaryAndCacheWrite");
  pending_rotary_.reset();
}

void StreamBackend::PagedAttention(const AttentionShape& shape,
                                   const float* qkv,
                                   KvLayer cache,
                                   Operands out) {
  if (graphs_.Skips({qkv, cache.keys, cache.values, out.data})) return;
  PHI_CHECK(shape.head_dim <= kMaxHeadDim, "head_dim %d", shape.head_dim);
  const StepTables& tables = upload_->tables();
  if (pending_rotary_.has_value() && pending_rotary_->qkv == qkv &&
      pending_rotary_->cache.keys == cache.keys) {
    AttentionArgs args = *std::exchange(pending_rotary_, std::nullopt);
    args.out = out;
    return Note(cuda::DecodeAttention(context_, tables, args), "DecodeAttention");
  }
  FlushRotary();
  const AttentionArgs args = {
      .shape = shape, .qkv = const_cast<float*>(qkv), .cache = cache, .out = out};
  // Tensor cores would round float32's operands.
  Note(dtype() == DType::kFloat32 ? cuda::RowAttention(context_, tables, args)
                                  : cuda::TileAttention(context_, tables, args),
       "PagedAttention");
}

void StreamBackend::SumRanks(const float* gathered, int ranks, int64_t count, float* sum) {
  Note(cuda::SumRanks(context_, gathered, ranks, count, sum), "SumRanks");
}

void StreamBackend::TopCandidates(const LogitsRows& rows, int count, Candidate* out) {
  PHI_CHECK(count >= 1 && count <= kMaxCandidates, "%d candidates", count);
  NoteStatus(UseDevice());
  Note(cuda::TopCandidates(context_, rows, count, out), "TopCandidates");
}

}  // namespace phi::kernels::cuda
