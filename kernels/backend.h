#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/dtype.h"

// The operations of one Phi rank on one device: the seam between the model (shard/phi_model) and
// the arithmetic (kernels/cpu, kernels/cuda).
//
// Dtypes. A backend computes in one dtype, fixed when it is made. "Operand" below means an
// activation in that dtype, the input of a matrix product; the residual stream, products and biases
// are float32. Sums are float32.
//
// I1 (same answer). Every output of a product is one sum over the inputs in one fixed order,
// whatever the number of rows; attention adds over blocks of kKvBlockTokens positions from 0
// upwards. So a row's bits depend on that row and its own context alone, on a given build, dtype
// and instruction set; the number of threads changes nothing.
//
// Memory and errors. All matrices are row-major and dense unless a stride is given. Memory is
// allocated at start; no operation allocates (I6). Operations enqueue on the device in call order
// and return nothing: a wrong call is our bug and aborts with values, and what the device reports
// is returned by FinishStep().
//
// Threads. One caller at a time for one backend.
namespace phi::kernels {

// Tokens in one block of the KV cache.
inline constexpr int kKvBlockTokens = 16;

// The blocks that hold so many tokens.
template <typename Integer>
constexpr Integer NumKvBlocks(Integer tokens) {
  constexpr auto kBlock = static_cast<Integer>(kKvBlockTokens);
  return static_cast<Integer>((tokens + kBlock - 1) / kBlock);
}

// Owns a run of device memory; host-addressable on the CPU backend only.
class DeviceBuffer {
 public:
  virtual ~DeviceBuffer() = default;
  virtual std::byte* data() = 0;
  virtual size_t bytes() const = 0;
};

// A weight matrix [rows = outputs, cols = inputs], stored as the backend's products like it best.
class PackedMatrix {
 public:
  virtual ~PackedMatrix() = default;
  virtual int64_t rows() const = 0;
  virtual int64_t cols() const = 0;
  virtual size_t bytes() const = 0;
};

// A rectangle of a checkpoint tensor in host memory, and where it lands in the packed matrix.
struct WeightSlice {
  const std::byte* data = nullptr;  // first element; no alignment is assumed
  DType dtype = DType::kFloat32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t row_stride = 0;  // elements from one row to the next in the tensor
  int64_t to_row = 0;      // where its first element lands
  int64_t to_col = 0;
};

// Attention on one rank: its own heads only.
struct AttentionShape {
  int num_heads = 0;
  int num_key_value_heads =
      0;  // divides num_heads; head h reads key-value head h / (num_heads / num_key_value_heads)
  int head_dim = 0;
  int rotary_dim = 0;  // even, <= head_dim; 0 = none

  constexpr int query_cols() const { return num_heads * head_dim; }
  constexpr int key_value_cols() const { return num_key_value_heads * head_dim; }
  constexpr int qkv_cols() const { return query_cols() + 2 * key_value_cols(); }
};

// The rows of one sequence in a step: `num_rows` consecutive tokens of it.
struct SequenceRows {
  int32_t first_row = 0;  // in the step's T rows
  int32_t num_rows = 0;   // >= 1
  int32_t first_position =
      0;  // of first_row; positions 0 .. first_position - 1 are in the KV cache already
  int32_t first_block = 0;  // index into StepBatch::block_ids of the sequence's block 0
};

// Ids of KV blocks: `to` becomes a copy of `from`.
struct KvBlockCopy {
  int32_t from = 0;
  int32_t to = 0;
};

// One step's rows, in host memory; it must outlive the step.
struct StepBatch {
  std::span<const int32_t> token_ids;       // [T]
  std::span<const int32_t> positions;       // [T], each < max_positions
  std::span<const SequenceRows> sequences;  // cover 0 .. T-1 in order
  std::span<const int32_t> block_ids;       // block tables of all sequences, one after the other
  std::span<const int32_t> logits_rows;     // [R] rows whose logits are wanted, ascending
  std::span<const KvBlockCopy> block_copies = {};  // no `to` is another's `from` or `to`

  int64_t num_rows() const { return static_cast<int64_t>(token_ids.size()); }
  int64_t num_logits_rows() const { return static_cast<int64_t>(logits_rows.size()); }
};

// A LayerNorm's parameters: [hidden] float32 on the device.
struct NormWeights {
  const float* gamma = nullptr;
  const float* beta = nullptr;
  float epsilon = 1e-5F;
};

// Operands [T, cols] on the device with `stride` elements from one row to the next.
struct Operands {
  std::byte* data = nullptr;
  int64_t stride = 0;
};

// The KV cache of one layer on the device: num_blocks blocks of keys, then as many of values, each
// block KvBlockBytes() / 2 bytes; the layout inside a block is the backend's own.
struct KvLayer {
  std::byte* keys = nullptr;
  std::byte* values = nullptr;
};

// One of a row's highest logits.
struct Candidate {
  float logit = 0;
  int32_t token_id = 0;  // -1: the row has no more; its logit is -infinity
};
// The order of candidates: the highest logit first, the lowest id first on a tie.
inline bool ComesBefore(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token_id < b.token_id;
}
// Candidates of one row that TopCandidates gives at most.
inline constexpr int kMaxCandidates = 64;

// Rows of logits for a share of the vocabulary, on the device.
struct LogitsRows {
  const float* logits = nullptr;  // [num_rows, num_cols]
  int64_t num_rows = 0;
  int64_t num_cols = 0;  // columns are the ids from first_id on
  int64_t num_real = 0;  // columns that may be candidates: those before it
  int64_t first_id = 0;
};

// What a backend's memory is like; known without a device, so that whoever plans a group's capacity
// needs none.
class MemoryLayout {
 public:
  virtual ~MemoryLayout() = default;
  virtual DType dtype() const = 0;
  // What PackMatrix would take.
  virtual size_t PackedMatrixBytes(int64_t rows, int64_t cols) const = 0;
  // Keys and values of one block in one layer.
  virtual size_t KvBlockBytes(const AttentionShape& shape) const = 0;
};

class Backend : public MemoryLayout {
 public:
  // For logs: "cpu avx512_bf16, 2 threads".
  virtual std::string Description() const = 0;
  // The name of the kernel family ("avx2", "avx512", "avx512_bf16", "sm_90").
  virtual std::string InstructionSet() const = 0;

  // --- Memory, before the first step. RESOURCE_EXHAUSTED with the bytes when there is no more. ---

  // Zeroed, aligned to 64 bytes at least.
  virtual absl::StatusOr<std::unique_ptr<DeviceBuffer>> Allocate(size_t bytes) = 0;
  // Rectangles must cover [rows, cols] exactly once. Converts to dtype() (round to nearest even).
  virtual absl::StatusOr<std::unique_ptr<PackedMatrix>> PackMatrix(
      int64_t rows, int64_t cols, std::span<const WeightSlice> slices) = 0;
  // A plain [rows, cols] table in dtype(), for Embed.
  virtual absl::StatusOr<std::unique_ptr<DeviceBuffer>> UploadTable(const WeightSlice& slice) = 0;
  virtual absl::StatusOr<std::unique_ptr<DeviceBuffer>> UploadFloats(
      std::span<const float> values) = 0;

  // --- One step. `T`, `R` and positions are those of the batch given to BeginStep. ---

  virtual void BeginStep(const StepBatch& batch) = 0;

  // Carries out the batch's block_copies in one layer: keys and values, bit by bit.
  virtual void CopyKvBlocks(const AttentionShape& shape, KvLayer cache) = 0;

  // hidden[t] = table[token_ids[t]]. table [vocab, hidden_size] in dtype(); hidden [T, hidden_size]
  // float32.
  virtual void Embed(const DeviceBuffer& table, int64_t hidden_size, float* hidden) = 0;

  // out = LayerNorm(hidden): gamma * (x - mean) / sqrt(variance + epsilon) + beta. hidden [T,
  // hidden_size].
  virtual void LayerNorm(const float* hidden,
                         int64_t hidden_size,
                         const NormWeights& norm,
                         Operands out) = 0;

  // hidden += partial + bias, in place; then out = LayerNorm(hidden). partial [T, hidden_size],
  // bias [hidden_size].
  virtual void ResidualLayerNorm(float* hidden,
                                 const float* partial,
                                 const float* bias,
                                 int64_t hidden_size,
                                 const NormWeights& norm,
                                 Operands out) = 0;

  // y = in · W^T + bias, W [qkv_cols + mlp_cols, hidden_size]. The first qkv_cols columns go to qkv
  // [T, qkv_cols] float32; the others go through gelu_new, 0.5 u (1 + tanh(sqrt(2/pi) (u + 0.044715
  // u^3))), to mlp [T, mlp_cols]. Source: Hugging Face activations.py, NewGELUActivation.
  virtual void InProjection(Operands in,
                            const PackedMatrix& weight,
                            const float* bias,
                            int64_t qkv_cols,
                            float* qkv,
                            Operands mlp) = 0;

  // Rotates the first rotary_dim values of each query and key head (halves i and i + rotary_dim/2
  // are a pair; Hugging Face modeling_phi.py, rotate_half), in place for queries; keys and values
  // go to the cache slots of their positions. qkv [T, qkv_cols] as [queries | keys | values].
  // rotary [max_positions, rotary_dim] float32: the cosines of the rotary_dim/2 pairs, then their
  // sines.
  virtual void RotaryAndCacheWrite(const AttentionShape& shape,
                                   const float* rotary,
                                   float* qkv,
                                   KvLayer cache) = 0;

  // out[t] = softmax(q_t K^T / sqrt(head_dim)) V over positions 0 .. positions[t], per head.
  // Queries are the first query_cols of qkv [T, qkv_cols]; out [T, query_cols].
  virtual void PagedAttention(const AttentionShape& shape,
                              const float* qkv,
                              KvLayer cache,
                              Operands out) = 0;

  // partial = in · W^T, [T, W.rows] float32, without a bias: it is added once after the all-reduce.
  virtual void OutProjection(Operands in, const PackedMatrix& weight, float* partial) = 0;

  // logits = in[logits_rows] · W^T + bias, [R, W.rows] float32.
  virtual void LmHead(Operands in,
                      const PackedMatrix& weight,
                      const float* bias,
                      float* logits) = 0;

  // Waits for all of the step; the first error that the device met, if any. The backend is lost
  // after an error.
  virtual absl::Status FinishStep() = 0;

  // After FinishStep: the `count` candidates of each row that come before all others, in their
  // order, to out [num_rows, count] on the device; 1 <= count <= kMaxCandidates. Where any logit of
  // a row is not finite, beyond num_real too, its first candidate's logit is NaN and the others
  // mean nothing. CopyToHost and the next step wait for it.
  virtual void TopCandidates(const LogitsRows& rows, int count, Candidate* out) = 0;

  // Device to host, after what was enqueued before; waits.
  virtual absl::Status CopyToHost(void* to, const void* from, size_t bytes) = 0;
};

}  // namespace phi::kernels
