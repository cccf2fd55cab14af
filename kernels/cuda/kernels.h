#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/backend.h"
#include "kernels/cuda/layout.h"
#include "kernels/dtype.h"

// The kernels, as the backend starts them: each function queues one kernel on `stream` and returns
// the launch's error. Pointers are device memory unless said otherwise; operands are in `dtype`;
// matrices are row-major.
namespace phi::kernels::cuda {

// Where a kernel runs.
struct KernelContext {
  DType dtype = DType::kBFloat16;
  cudaStream_t stream = nullptr;
  int num_processors = 1;            // of the device
  int64_t max_shared_bytes = 0;      // of one block
  float* split_scratch = nullptr;    // of kernels whose blocks share a row, kSplitScratchBytes
  int32_t* split_tickets = nullptr;  // of the same, kMaxSplitTickets, all 0 between kernels
};

inline constexpr int64_t kSplitScratchBytes = int64_t{8} << 20;
inline constexpr int64_t kMaxSplitTickets = 4096;

// Weights [outputs, cols] in rows of padded_cols elements; what lies beyond outputs and cols, up to
// a multiple of kPackedPadding in both directions, is zero.
struct PackedWeights {
  const void* data = nullptr;
  int64_t outputs = 0;
  int64_t cols = 0;
  int64_t padded_cols = 0;
};

// Rows of operands; row r is row_index[r] where there is an index.
struct InputRows {
  const void* data = nullptr;
  int64_t stride = 0;
  const int32_t* row_index = nullptr;
};

// x[r] = hidden[r] + (partial[r] + bias) and its LayerNorm, for rows of `size` values; without a
// partial, x[r] = hidden[r]. With an index, row r is row_index[r].
struct NormInput {
  const float* hidden = nullptr;
  const float* partial = nullptr;
  const float* bias = nullptr;
  const float* gamma = nullptr;
  const float* beta = nullptr;
  const int32_t* row_index = nullptr;
  int32_t size = 0;
  float epsilon = 1e-5F;
};

// What becomes of output n of row r of a product: plus bias[n] where there is a bias, the first
// `split` columns go to plain[r, n], the others through gelu_new to gelu[r, n - split].
struct ProductOutput {
  const float* bias = nullptr;
  float* plain = nullptr;
  int64_t split = 0;
  void* gelu = nullptr;
  int64_t gelu_stride = 0;
  // Before plain[r, n] is written: residual[r, n] += plain[r, n] + residual_bias[n]. This is how
  // the residual stream gets what the layer before added, once nobody reads its old value any more.
  float* residual = nullptr;
  const float* residual_bias = nullptr;
};

// --- embed_norm.cu ---

// hidden[t] = table[token_ids[t]].
cudaError_t Embed(const KernelContext& context,
                  const void* table,
                  const int32_t* token_ids,
                  int64_t rows,
                  int64_t size,
                  float* hidden);

// out[r] = LayerNorm(x[r]); with a partial, hidden[r] = x[r] too (so norm.hidden is written).
cudaError_t Normalize(const KernelContext& context,
                      const NormInput& norm,
                      int64_t rows,
                      Operands out);

// --- products ---

// Rows that one SmallProduct takes at most; fewer where that many do not fit in shared memory.
inline constexpr int kMaxSmallRows = 8;
int SmallProductRows(const KernelContext& context, int64_t padded_cols, bool with_norm);

// out = in · W^T for at most SmallProductRows rows: the weights are read once, at the memory's
// speed. Each output is a sum over K in one order, whatever the number of rows. `norm`, where its
// hidden is given, makes the rows instead of `in`.
cudaError_t SmallProduct(const KernelContext& context,
                         const InputRows& in,
                         const NormInput& norm,
                         int64_t rows,
                         const PackedWeights& weights,
                         const ProductOutput& output);

// The same by tensor cores, for any number of rows; bfloat16 and float16 alone. Each output is a
// sum over K in one order, whatever the number of rows.
cudaError_t TileProduct(const KernelContext& context,
                        const InputRows& in,
                        int64_t rows,
                        const PackedWeights& weights,
                        const ProductOutput& output);

// Brings products that a library left without bias and activation to their outputs: bias is added
// to output.plain in place, and output.gelu is made of `raw` [rows, outputs - split].
cudaError_t FinishProduct(const KernelContext& context,
                          const float* raw,
                          int64_t rows,
                          int64_t outputs,
                          const ProductOutput& output);

// to[r] = in[r], densely.
cudaError_t GatherRows(
    const KernelContext& context, const InputRows& in, int64_t rows, int64_t cols, void* to);

// sum[i] = gathered[0][i] + gathered[1][i] + ..., in that order.
cudaError_t SumRanks(
    const KernelContext& context, const float* gathered, int ranks, int64_t count, float* sum);

// Backend::TopCandidates, in one launch for as many rows as the scratch has room for.
cudaError_t TopCandidates(const KernelContext& context,
                          const LogitsRows& rows,
                          int64_t count,
                          Candidate* out);

// --- attention ---

// Query rows that one block of TileAttention takes: consecutive rows of one sequence.
inline constexpr int kTileRows = 64;
struct AttentionTile {
  int32_t first_row;
  int32_t num_rows;
  int32_t first_position;
  int32_t first_block;  // index into block_ids of the sequence's block 0
};

// A step's tables on the device.
struct StepTables {
  const int32_t* token_ids = nullptr;  // [T]
  const int32_t* positions = nullptr;  // [T]
  const int32_t* slots = nullptr;      // [T] block id * kKvBlockTokens + place in the block
  const int32_t* first_blocks =
      nullptr;                           // [T] index into block_ids of the row's sequence's block 0
  const int32_t* logits_rows = nullptr;  // [R]
  const AttentionTile* tiles = nullptr;
  const int32_t* block_ids = nullptr;
  int64_t num_rows = 0;
  int64_t num_logits_rows = 0;
  int64_t num_tiles = 0;
};

struct AttentionArgs {
  AttentionShape shape = {};
  float* qkv = nullptr;  // [T, qkv_cols]
  KvLayer cache = {};
  Operands out = {};              // [T, query_cols]
  const float* rotary = nullptr;  // [max_positions, rotary_dim]
};

// Backend::RotaryAndCacheWrite.
cudaError_t RotaryAndCacheWrite(const KernelContext& context,
                                const StepTables& tables,
                                const AttentionArgs& args);

// Rotary embedding, cache write and attention of rows that are one sequence each, for as many
// key-value heads as heads. The positions before are split over several blocks where heads alone
// cannot fill the device.
cudaError_t DecodeAttention(const KernelContext& context,
                            const StepTables& tables,
                            const AttentionArgs& args);

// Backend::PagedAttention in float32, a warp a row and head.
cudaError_t RowAttention(const KernelContext& context,
                         const StepTables& tables,
                         const AttentionArgs& args);

// Backend::PagedAttention by tensor cores, for bfloat16 and float16: queries and weights are
// rounded to operands.
cudaError_t TileAttention(const KernelContext& context,
                          const StepTables& tables,
                          const AttentionArgs& args);

}  // namespace phi::kernels::cuda
