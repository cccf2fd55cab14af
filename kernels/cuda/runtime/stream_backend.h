#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/runtime/device_memory.h"
#include "kernels/cuda/runtime/handles.h"
#include "kernels/cuda/runtime/packed_weights.h"
#include "kernels/cuda/runtime/products.h"
#include "kernels/cuda/runtime/step_graphs.h"
#include "kernels/cuda/runtime/step_upload.h"

namespace phi::kernels::cuda {

// The CudaBackend: stream_backend.cc has its memory and what a step begins and ends with,
// stream_operations.cc the operations between.
class StreamBackend final : public CudaBackend {
 public:
  explicit StreamBackend(const CudaOptions& options)
      : options_(options), graphs_(options.max_graph_rows) {}

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
  void SumRanks(const float* gathered, int ranks, int64_t count, float* sum) override;
  bool IsReplay() const override { return graphs_.IsReplay(); }
  void ForgetGraphs() override { graphs_.Clear(); }
  absl::Status FinishStep() override;
  void TopCandidates(const LogitsRows& rows, int count, Candidate* out) override;
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
  // Carry out what waits, if anything does.
  void FlushNorm();
  void FlushRotary();
  void Flush() {
    if (pending_norm_.has_value() && !pending_norm_->was_read) FlushNorm();
    FlushRotary();
  }
  // Whether a product of `in` may make its rows itself, from the LayerNorm that waits.
  bool CanMakeRows(Operands in, int64_t rows, const PackedMatrix& weight) const;
  void Multiply(const InputRows& in,
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
  Stream stream_;
  KernelContext context_;
  std::unique_ptr<DeviceMemory> split_scratch_;
  std::unique_ptr<DeviceMemory> split_tickets_;
  std::unique_ptr<StepUpload> upload_;
  PinnedMemory host_staging_;  // of CopyToHost
  std::unique_ptr<Products> products_;
  StepGraphs graphs_;
  std::function<absl::Status()> check_;

  absl::Status status_;  // the first error since the start
  bool is_waited_for_ = true;
  std::span<const KvBlockCopy> block_copies_;  // of the step
  std::optional<PendingNorm> pending_norm_;
  std::optional<AttentionArgs> pending_rotary_;
};

}  // namespace phi::kernels::cuda
