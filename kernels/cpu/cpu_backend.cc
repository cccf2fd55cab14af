#include "kernels/cpu/cpu_backend.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <string>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "kernels/base/check.h"
#include "kernels/base/convert.h"
#include "kernels/base/status_macros.h"
#include "kernels/base/top_candidates.h"
#include "kernels/cpu/cache_ops.h"
#include "kernels/cpu/host_buffer.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/thread_pool.h"

namespace phi::kernels {
namespace {

// Values below which a second thread costs more than it saves.
constexpr int64_t kMinParallelValues = 32768;
// Query rows of one head that one thread takes at a time.
constexpr int64_t kRowsPerAttentionTask = 16;

const KernelTable& TableFor(Isa isa, DType dtype) {
  const bool is_float = dtype == DType::kFloat32;
  switch (isa) {
    case Isa::kAvx2:
      return is_float ? kAvx2Float32Kernels : kAvx2BFloat16Kernels;
    case Isa::kAvx512:
      return is_float ? kAvx512Float32Kernels : kAvx512BFloat16Kernels;
    case Isa::kAvx512Bf16:
      return is_float ? kAvx512Float32Kernels : kAvx512Bf16BFloat16Kernels;
  }
  PHI_CHECK(false, "instruction set %d", static_cast<int>(isa));
}

// The arguments of PagedAttention.
struct AttentionCall {
  const AttentionShape& shape;
  const float* qkv;
  KvLayer cache;
  Operands out;
};

int64_t RowTasks(const SequenceRows& sequence) {
  return (sequence.num_rows + kRowsPerAttentionTask - 1) / kRowsPerAttentionTask;
}

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(const CpuOptions& options)
      : dtype_(options.dtype),
        isa_(options.isa),
        kernels_(TableFor(options.isa, options.dtype)),
        pool_(options.threads) {}

  absl::Status AllocateScratch() {
    PHI_ASSIGN_OR_RETURN(thread_scratch_,
                         HostBuffer::Allocate(static_cast<size_t>(pool_.num_threads()) *
                                              kThreadScratchFloats * sizeof(float)));
    return absl::OkStatus();
  }

  std::string Description() const override {
    return "cpu " + InstructionSet() + ", " + std::to_string(pool_.num_threads()) +
           (pool_.num_threads() == 1 ? " thread" : " threads");
  }
  std::string InstructionSet() const override { return std::string(IsaName(isa_)); }
  DType dtype() const override { return dtype_; }

  absl::StatusOr<std::unique_ptr<DeviceBuffer>> Allocate(size_t bytes) override {
    PHI_ASSIGN_OR_RETURN(HostBuffer buffer, HostBuffer::Allocate(bytes));
    return std::make_unique<HostBuffer>(std::move(buffer));
  }

  absl::StatusOr<std::unique_ptr<PackedMatrix>> PackMatrix(
      int64_t rows, int64_t cols, std::span<const WeightSlice> slices) override {
    PHI_ASSIGN_OR_RETURN(std::unique_ptr<CpuPackedMatrix> matrix,
                         CpuPackedMatrix::Pack(dtype_, rows, cols, slices, pool_));
    const auto needed =
        static_cast<size_t>(kMaxBlockRows * kernels_.packed_row_bytes(matrix->steps()));
    if (needed > packed_operands_.bytes()) {
      PHI_ASSIGN_OR_RETURN(packed_operands_, HostBuffer::Allocate(needed));
    }
    return matrix;
  }

  size_t PackedMatrixBytes(int64_t rows, int64_t cols) const override {
    return CpuPackedMatrix::PackedBytes(dtype_, rows, cols);
  }

  absl::StatusOr<std::unique_ptr<DeviceBuffer>> UploadTable(const WeightSlice& slice) override;
  absl::StatusOr<std::unique_ptr<DeviceBuffer>> UploadFloats(
      std::span<const float> values) override;

  size_t KvBlockBytes(const AttentionShape& shape) const override {
    return 2 * static_cast<size_t>(KvBlockLayout{dtype_, shape}.block_bytes());
  }

  void BeginStep(const StepBatch& batch) override { batch_ = batch; }
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
  absl::Status FinishStep() override { return absl::OkStatus(); }
  void TopCandidates(const LogitsRows& rows, int count, Candidate* out) override;
  absl::Status CopyToHost(void* to, const void* from, size_t bytes) override {
    std::memcpy(to, from, bytes);
    return absl::OkStatus();
  }

 private:
  static constexpr int64_t kThreadScratchFloats = kProductScratchFloats;

  // Calls task(first, end) for shares of `rows` rows of `values_per_row` values each, on as many
  // threads as pay.
  template <class Task>
  void ForRows(int64_t rows, int64_t values_per_row, Task&& task) {
    if (rows * values_per_row < kMinParallelValues) return task(int64_t{0}, rows);
    pool_.Run([&](int thread) {
      const Share share = ShareOf(rows, thread, pool_.num_threads());
      task(share.first, share.end);
    });
  }

  void Normalize(const NormArgs& args) {
    ForRows(batch_.num_rows(), args.size, [&](int64_t first, int64_t end) {
      kernels_.normalize(args, first, end);
    });
  }

  void Multiply(OperandRows in, int64_t rows, const PackedMatrix& weight, ProductOutput output);
  void AttendTask(const AttentionCall& call,
                  const SequenceRows& sequence,
                  int64_t task,
                  float* scratch);
  float* ThreadScratch(int thread) {
    return reinterpret_cast<float*>(thread_scratch_.data()) + thread * kThreadScratchFloats;
  }
  int64_t ElementBytes() const { return static_cast<int64_t>(DTypeBytes(dtype_)); }

  const DType dtype_;
  const Isa isa_;
  const KernelTable& kernels_;
  ThreadPool pool_;
  HostBuffer thread_scratch_;
  HostBuffer packed_operands_;
  StepBatch batch_;
};

absl::StatusOr<std::unique_ptr<DeviceBuffer>> CpuBackend::UploadTable(const WeightSlice& slice) {
  const int64_t row_bytes = slice.cols * ElementBytes();
  PHI_ASSIGN_OR_RETURN(HostBuffer table,
                       HostBuffer::Allocate(static_cast<size_t>(slice.rows * row_bytes)));
  ForRows(slice.rows, slice.cols, [&](int64_t first, int64_t end) {
    for (int64_t row = first; row < end; ++row) {
      ConvertRow(
          slice.dtype,
          slice.data + row * slice.row_stride * static_cast<int64_t>(DTypeBytes(slice.dtype)),
          slice.cols,
          dtype_,
          table.data() + row * row_bytes);
    }
  });
  return std::make_unique<HostBuffer>(std::move(table));
}

absl::StatusOr<std::unique_ptr<DeviceBuffer>> CpuBackend::UploadFloats(
    std::span<const float> values) {
  PHI_ASSIGN_OR_RETURN(HostBuffer buffer, HostBuffer::Allocate(values.size_bytes()));
  if (!values.empty()) std::memcpy(buffer.data(), values.data(), values.size_bytes());
  return std::make_unique<HostBuffer>(std::move(buffer));
}

void CpuBackend::CopyKvBlocks(const AttentionShape& shape, KvLayer cache) {
  const KvBlockLayout layout = {dtype_, shape};
  const auto num_copies = static_cast<int64_t>(batch_.block_copies.size());
  ForRows(num_copies, 2 * layout.block_bytes() / ElementBytes(), [&](int64_t first, int64_t end) {
    for (int64_t i = first; i < end; ++i)
      CopyBlock(layout, cache, batch_.block_copies[static_cast<size_t>(i)]);
  });
}

void CpuBackend::Embed(const DeviceBuffer& table, int64_t hidden_size, float* hidden) {
  const std::byte* rows = static_cast<const HostBuffer&>(table).data();
  ForRows(batch_.num_rows(), hidden_size, [&](int64_t first, int64_t end) {
    for (int64_t row = first; row < end; ++row) {
      const int64_t token = batch_.token_ids[static_cast<size_t>(row)];
      ConvertRow(dtype_,
                 rows + token * hidden_size * ElementBytes(),
                 hidden_size,
                 DType::kFloat32,
                 reinterpret_cast<std::byte*>(hidden + row * hidden_size));
    }
  });
}

void CpuBackend::LayerNorm(const float* hidden,
                           int64_t hidden_size,
                           const NormWeights& norm,
                           Operands out) {
  // Without a partial the kernel does not write to hidden.
  Normalize({.hidden = const_cast<float*>(hidden),
             .gamma = norm.gamma,
             .beta = norm.beta,
             .epsilon = norm.epsilon,
             .size = hidden_size,
             .out = out.data,
             .out_stride = out.stride});
}

void CpuBackend::ResidualLayerNorm(float* hidden,
                                   const float* partial,
                                   const float* bias,
                                   int64_t hidden_size,
                                   const NormWeights& norm,
                                   Operands out) {
  Normalize({.hidden = hidden,
             .partial = partial,
             .bias = bias,
             .gamma = norm.gamma,
             .beta = norm.beta,
             .epsilon = norm.epsilon,
             .size = hidden_size,
             .out = out.data,
             .out_stride = out.stride});
}

void CpuBackend::Multiply(OperandRows in,
                          int64_t rows,
                          const PackedMatrix& weight,
                          ProductOutput output) {
  const auto& matrix = static_cast<const CpuPackedMatrix&>(weight);
  PHI_CHECK(static_cast<size_t>(kMaxBlockRows * kernels_.packed_row_bytes(matrix.steps())) <=
                packed_operands_.bytes(),
            "a matrix of %lld columns that this backend did not pack",
            static_cast<long long>(matrix.cols()));
  in.cols = matrix.cols();
  while (rows > 0) {
    const int64_t block_rows = std::min<int64_t>(rows, kMaxBlockRows);
    ForRows(block_rows, in.cols, [&](int64_t first, int64_t end) {
      kernels_.pack_operands(in, block_rows, first, end, packed_operands_.data());
    });
    const ProductArgs args = {.rows = block_rows,
                              .operands = packed_operands_.data(),
                              .weights = matrix.data(),
                              .steps = matrix.steps(),
                              .outputs = matrix.rows(),
                              .output = output};
    pool_.ForShares(matrix.num_panels(), kGroupPanels, [&](int64_t first, int64_t end, int thread) {
      kernels_.multiply(args, first, end, ThreadScratch(thread));
    });
    rows -= block_rows;
    if (in.row_index != nullptr) {
      in.row_index += block_rows;
    } else {
      in.data += block_rows * in.stride * ElementBytes();
    }
    output.plain += block_rows * output.split;
    if (output.gelu != nullptr) output.gelu += block_rows * output.gelu_stride * ElementBytes();
  }
}

void CpuBackend::InProjection(Operands in,
                              const PackedMatrix& weight,
                              const float* bias,
                              int64_t qkv_cols,
                              float* qkv,
                              Operands mlp) {
  Multiply(
      {.data = in.data, .stride = in.stride},
      batch_.num_rows(),
      weight,
      {.bias = bias, .plain = qkv, .split = qkv_cols, .gelu = mlp.data, .gelu_stride = mlp.stride});
}

void CpuBackend::OutProjection(Operands in, const PackedMatrix& weight, float* partial) {
  Multiply({.data = in.data, .stride = in.stride},
           batch_.num_rows(),
           weight,
           {.plain = partial, .split = weight.rows()});
}

void CpuBackend::LmHead(Operands in, const PackedMatrix& weight, const float* bias, float* logits) {
  Multiply({.data = in.data, .stride = in.stride, .row_index = batch_.logits_rows.data()},
           batch_.num_logits_rows(),
           weight,
           {.bias = bias, .plain = logits, .split = weight.rows()});
}

void CpuBackend::TopCandidates(const LogitsRows& rows, int count, Candidate* out) {
  PHI_CHECK(count >= 1 && count <= kMaxCandidates, "%d candidates", count);
  ForRows(rows.num_rows, rows.num_cols, [&](int64_t first, int64_t end) {
    for (int64_t row = first; row < end; ++row) {
      TakeTopCandidates({rows.logits + row * rows.num_cols, static_cast<size_t>(rows.num_cols)},
                        rows.num_real,
                        rows.first_id,
                        {out + row * count, static_cast<size_t>(count)});
    }
  });
}

void CpuBackend::RotaryAndCacheWrite(const AttentionShape& shape,
                                     const float* rotary,
                                     float* qkv,
                                     KvLayer cache) {
  const KvBlockLayout layout = {dtype_, shape};
  ForRows(batch_.num_rows(), shape.qkv_cols(), [&](int64_t first, int64_t end) {
    for (const SequenceRows& sequence : batch_.sequences) {
      const int64_t sequence_end = sequence.first_row + sequence.num_rows;
      for (int64_t row = std::max<int64_t>(first, sequence.first_row);
           row < std::min(end, sequence_end);
           ++row) {
        const int64_t position = batch_.positions[static_cast<size_t>(row)];
        const int64_t block =
            batch_.block_ids[static_cast<size_t>(sequence.first_block + position / kKvBlockTokens)];
        RotateAndStoreRow(layout,
                          rotary + position * shape.rotary_dim,
                          qkv + row * shape.qkv_cols(),
                          cache,
                          block,
                          position % kKvBlockTokens);
      }
    }
  });
}

void CpuBackend::PagedAttention(const AttentionShape& shape,
                                const float* qkv,
                                KvLayer cache,
                                Operands out) {
  PHI_CHECK(AttentionScratchFloats(shape.head_dim) <= kThreadScratchFloats,
            "head_dim %d",
            shape.head_dim);
  const AttentionCall call = {shape, qkv, cache, out};
  int64_t tasks = 0;
  for (const SequenceRows& sequence : batch_.sequences)
    tasks += RowTasks(sequence) * shape.num_heads;
  pool_.ForEach(tasks, [&](int64_t task, int thread) {
    size_t index = 0;
    while (task >= RowTasks(batch_.sequences[index]) * shape.num_heads) {
      task -= RowTasks(batch_.sequences[index]) * shape.num_heads;
      ++index;
    }
    AttendTask(call, batch_.sequences[index], task, ThreadScratch(thread));
  });
}

// Tasks of a sequence are numbered head by head, so that neighbours read the same keys and values.
void CpuBackend::AttendTask(const AttentionCall& call,
                            const SequenceRows& sequence,
                            int64_t task,
                            float* scratch) {
  const AttentionShape& shape = call.shape;
  const KvBlockLayout layout = {dtype_, shape};
  const int64_t head = task / RowTasks(sequence);
  const int64_t first = task % RowTasks(sequence) * kRowsPerAttentionTask;
  const int64_t row = sequence.first_row + first;
  const int64_t kv_head = head / (shape.num_heads / shape.num_key_value_heads);
  kernels_.attend(
      {.query = call.qkv + row * shape.qkv_cols() + head * shape.head_dim,
       .query_stride = shape.qkv_cols(),
       .out = call.out.data + (row * call.out.stride + head * shape.head_dim) * ElementBytes(),
       .out_stride = call.out.stride,
       .rows = std::min<int64_t>(kRowsPerAttentionTask, sequence.num_rows - first),
       .first_position = sequence.first_position + first,
       .head_dim = shape.head_dim,
       .scale = 1.0F / std::sqrt(static_cast<float>(shape.head_dim)),
       .keys = call.cache.keys + kv_head * layout.head_bytes(),
       .values = call.cache.values + kv_head * layout.head_bytes(),
       .block_stride = layout.block_bytes(),
       .block_ids = batch_.block_ids.data() + sequence.first_block},
      scratch);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> MakeCpuBackend(const CpuOptions& options) {
  if (options.dtype == DType::kFloat16) {
    return absl::InvalidArgumentError(
        "the CPU backend computes in float32 or bfloat16, not in float16");
  }
  if (options.threads < 1) {
    return absl::InvalidArgumentError("threads: " + std::to_string(options.threads) +
                                      " is below 1");
  }
  PHI_RETURN_IF_ERROR(CheckIsa(options.isa));
  try {
    auto backend = std::make_unique<CpuBackend>(options);
    PHI_RETURN_IF_ERROR(backend->AllocateScratch());
    return backend;
  } catch (const std::system_error& error) {
    return absl::ResourceExhaustedError("cannot start " + std::to_string(options.threads) +
                                        " threads: " + error.what());
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("no memory for " + std::to_string(options.threads) +
                                        " threads");
  }
}

}  // namespace phi::kernels
