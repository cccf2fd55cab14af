#include "kernels/cuda/cuda_backend.h"

#include <cuda_runtime_api.h>
#include <sched.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/runtime/device_memory.h"
#include "kernels/cuda/runtime/device_properties.h"
#include "kernels/cuda/runtime/handles.h"
#include "kernels/cuda/runtime/packed_weights.h"
#include "kernels/cuda/runtime/products.h"
#include "kernels/cuda/runtime/step_upload.h"

namespace phi::kernels {
namespace {

using cuda::AttentionArgs;
using cuda::CudaStatus;
using cuda::DeviceMemory;
using cuda::NormInput;
using cuda::PackedDeviceMatrix;
using cuda::ProductOutput;

// Polls of the stream between two looks at the check.
constexpr int kPollsPerCheck = 64;

class StreamBackend final : public CudaBackend {
 public:
  explicit StreamBackend(const CudaOptions& options) : options_(options) {}

  absl::Status Init();

  std::string Description() const override { return "cuda " + InstructionSet() + ", " + name_; }
  std::string InstructionSet() const override { return instruction_set_; }
  DType dtype() const override { return options_.dtype; }
  void* stream() override { return stream_.get(); }
  void CheckWhileWaiting(std::function<absl::Status()> check) override {
    check_ = std::move(check);
  }

  absl::StatusOr<std::unique_ptr<DeviceBuffer>> Allocate(size_t bytes) override;
  absl::StatusOr<std::unique_ptr<PackedMatrix>> PackMatrix(
      int64_t rows, int64_t cols, std::span<const WeightSlice> slices) override;
  size_t PackedMatrixBytes(int64_t rows, int64_t cols) const override {
    return cuda::PackedMatrixBytes(dtype(), rows, cols);
  }
  absl::StatusOr<std::unique_ptr<DeviceBuffer>> UploadTable(const WeightSlice& slice) override;
  absl::StatusOr<std::unique_ptr<DeviceBuffer>> UploadFloats(
      std::span<const float> values) override;
  size_t KvBlockBytes(const AttentionShape& shape) const override {
    return cuda::KvBlockBytes(dtype(), shape);
  }

  void BeginStep(const StepBatch& batch) override;
  void CopyKvBlocks(const AttentionShape& shape, KvLayer cache) override;
  void Embed(const DeviceBuffer& table, int64_t hidden_size, float* hidden) override;
  void LayerNorm(const float* hidden,
                 int64_t hidden_size,
                 const NormWeights& norm,
                 Operands out) override;
  void ResidualLayerNorm(float* hidden,
                         const float* partial,
                         const float* bias,
                         int64_t hidden_size,
                         const NormWeights& norm,
                         Operands out) override;
  void InProjection(Operands in,
                    const PackedMatrix& weight,
                    const float* bias,
                    int64_t qkv_cols,
                    float* qkv,
                    Operands mlp) override;
  void RotaryAndCacheWrite(const AttentionShape& shape,
                           const float* rotary,
                           float* qkv,
                           KvLayer cache) override;
  void PagedAttention(const AttentionShape& shape,
                      const float* qkv,
                      KvLayer cache,
                      Operands out) override;
  void OutProjection(Operands in, const PackedMatrix& weight, float* partial) override;
  void LmHead(Operands in, const PackedMatrix& weight, const float* bias, float* logits) override;
  void SumRanks(const float* gathered, int ranks, int64_t count, float* sum) override {
    Note(cuda::SumRanks(context_, gathered, ranks, count, sum), "SumRanks");
  }
  absl::Status FinishStep() override { return WaitForStream(); }
  absl::Status WaitForStream() override;
  absl::Status CopyToHost(void* to, const void* from, size_t bytes) override;

 private:
  // A LayerNorm that waits for its product.
  struct PendingNorm {
    NormInput norm;
    Operands out;
    bool was_read = false;  // by a product that made its rows itself
  };

  // The thread may have used another device, or none, before.
  absl::Status UseDevice() {
    return CudaStatus(cudaSetDevice(options_.device), "selecting the device");
  }
  void Note(cudaError_t error, const char* what) {
    if (status_.ok()) status_ = CudaStatus(error, what);
  }
  void NoteStatus(const absl::Status& status) {
    if (status_.ok()) status_ = status;
  }
  int64_t num_rows() const { return upload_->tables().num_rows; }

  void QueueNorm(const NormInput& norm, Operands out);
  // Carries out what waits, if anything does.
  void FlushNorm();
  void FlushRotary();
  // Whether a product of `in` may make its rows itself, from the LayerNorm that waits.
  bool CanMakeRows(Operands in, int64_t rows, const PackedMatrix& weight) const;
  void Multiply(const cuda::InputRows& in,
                int64_t rows,
                const PackedMatrix& weight,
                const ProductOutput& output) {
    NoteStatus(products_->Multiply(
        in, rows, static_cast<const PackedDeviceMatrix&>(weight).weights(), output));
  }
  void MultiplyNormed(const NormInput& norm,
                      int64_t rows,
                      const PackedMatrix& weight,
                      const ProductOutput& output);

  const CudaOptions options_;
  std::string name_;
  std::string instruction_set_;
  cuda::Stream stream_;
  cuda::KernelContext context_;
  std::unique_ptr<DeviceMemory> split_scratch_;
  std::unique_ptr<DeviceMemory> split_tickets_;
  std::unique_ptr<cuda::StepUpload> upload_;
  std::unique_ptr<cuda::Products> products_;
  std::function<absl::Status()> check_;

  absl::Status status_;  // the first error since the start
  bool is_waited_for_ = true;
  std::span<const KvBlockCopy> block_copies_;  // of the step
  std::optional<PendingNorm> pending_norm_;
  std::optional<AttentionArgs> pending_rotary_;
};

absl::Status StreamBackend::Init() {
  PHI_RETURN_IF_ERROR(UseDevice());
  PHI_ASSIGN_OR_RETURN(const cudaDeviceProp properties, cuda::SupportedDevice(options_.device));
  name_ = properties.name;
  instruction_set_ = cuda::InstructionSetOf(properties);
  cudaStream_t stream = nullptr;
  PHI_RETURN_IF_ERROR(
      CudaStatus(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating the stream"));
  stream_.reset(stream);
  PHI_ASSIGN_OR_RETURN(split_scratch_, DeviceMemory::Allocate(cuda::kSplitScratchBytes, stream));
  PHI_ASSIGN_OR_RETURN(split_tickets_,
                       DeviceMemory::Allocate(cuda::kMaxSplitTickets * sizeof(int32_t), stream));
  context_ = {.dtype = options_.dtype,
              .stream = stream,
              .num_processors = properties.multiProcessorCount,
              .max_shared_bytes = static_cast<int64_t>(properties.sharedMemPerBlockOptin),
              .split_scratch = reinterpret_cast<float*>(split_scratch_->data()),
              .split_tickets = reinterpret_cast<int32_t*>(split_tickets_->data())};
  PHI_ASSIGN_OR_RETURN(
      upload_,
      cuda::StepUpload::Create(
          {.rows = options_.max_step_tokens, .block_ids = options_.max_block_ids}, stream));
  PHI_ASSIGN_OR_RETURN(products_, cuda::Products::Create(context_, options_.batch_invariant));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<DeviceBuffer>> StreamBackend::Allocate(size_t bytes) {
  PHI_RETURN_IF_ERROR(UseDevice());
  return DeviceMemory::Allocate(bytes, stream_.get());
}

absl::StatusOr<std::unique_ptr<PackedMatrix>> StreamBackend::PackMatrix(
    int64_t rows, int64_t cols, std::span<const WeightSlice> slices) {
  PHI_RETURN_IF_ERROR(UseDevice());
  if (cuda::SmallProductRows(context_, cuda::PadPacked(cols), true) < 1) {
    return absl::InvalidArgumentError(
        absl::StrFormat("a matrix of %d inputs is too wide for the device", cols));
  }
  return PackedDeviceMatrix::Pack(dtype(), rows, cols, slices, stream_.get());
}

absl::StatusOr<std::unique_ptr<DeviceBuffer>> StreamBackend::UploadTable(const WeightSlice& slice) {
  PHI_RETURN_IF_ERROR(UseDevice());
  return cuda::UploadRows(dtype(), slice, stream_.get());
}

absl::StatusOr<std::unique_ptr<DeviceBuffer>> StreamBackend::UploadFloats(
    std::span<const float> values) {
  PHI_RETURN_IF_ERROR(UseDevice());
  PHI_ASSIGN_OR_RETURN(std::unique_ptr<DeviceMemory> memory,
                       DeviceMemory::Allocate(values.size_bytes(), stream_.get()));
  PHI_RETURN_IF_ERROR(memory->Upload(values.data(), values.size_bytes(), 0, stream_.get()));
  return memory;
}

void StreamBackend::BeginStep(const StepBatch& batch) {
  NoteStatus(UseDevice());
  // The tables' host memory is about to be written.
  if (!is_waited_for_) Note(cudaStreamSynchronize(stream_.get()), "the step before");
  is_waited_for_ = false;
  pending_norm_.reset();
  pending_rotary_.reset();
  block_copies_ = batch.block_copies;
  Note(upload_->Queue(batch, stream_.get()), "copying the step's tables");
}

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
  if (options_.batch_invariant || num_rows() > cuda::kMaxSmallRows) FlushNorm();
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
         rows <= cuda::SmallProductRows(context_, cuda::PadPacked(weight.cols()), true);
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
  const ProductOutput output = {
      .bias = bias, .plain = qkv, .split = qkv_cols, .gelu = mlp.data, .gelu_stride = mlp.stride};
  if (CanMakeRows(in, num_rows(), weight)) {
    return MultiplyNormed(pending_norm_->norm, num_rows(), weight, output);
  }
  FlushNorm();
  Multiply({.data = in.data, .stride = in.stride}, num_rows(), weight, output);
}

void StreamBackend::OutProjection(Operands in, const PackedMatrix& weight, float* partial) {
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
  PHI_CHECK(shape.head_dim <= cuda::kMaxHeadDim, "head_dim %d", shape.head_dim);
  const cuda::StepTables& tables = upload_->tables();
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

absl::Status StreamBackend::WaitForStream() {
  if (pending_norm_.has_value() && !pending_norm_->was_read) FlushNorm();
  FlushRotary();
  NoteStatus(UseDevice());
  PHI_RETURN_IF_ERROR(status_);
  if (check_ == nullptr) {
    Note(cudaStreamSynchronize(stream_.get()), "the step");
  } else {
    cudaError_t state = cudaErrorNotReady;
    for (int polls = 1; status_.ok(); ++polls) {
      state = cudaStreamQuery(stream_.get());
      if (state != cudaErrorNotReady) break;
      if (polls % kPollsPerCheck == 0) {
        NoteStatus(check_());
        sched_yield();
      }
    }
    if (status_.ok()) Note(state, "the step");
  }
  is_waited_for_ = true;
  return status_;
}

absl::Status StreamBackend::CopyToHost(void* to, const void* from, size_t bytes) {
  if (bytes == 0) return status_;
  PHI_RETURN_IF_ERROR(UseDevice());
  if (pending_norm_.has_value() && !pending_norm_->was_read) FlushNorm();
  FlushRotary();
  Note(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_.get()),
       "copying to the host");
  return WaitForStream();
}

}  // namespace

absl::StatusOr<std::unique_ptr<CudaBackend>> MakeCudaBackend(const CudaOptions& options) {
  auto backend = std::make_unique<StreamBackend>(options);
  PHI_RETURN_IF_ERROR(backend->Init());
  return backend;
}

size_t CudaScratchBytes() {
  return static_cast<size_t>(cuda::kSplitScratchBytes) + cuda::Products::ScratchBytes() +
         (size_t{1} << 20);
}

}  // namespace phi::kernels
