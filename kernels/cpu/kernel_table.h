#pragma once

#include <cstddef>
#include <cstdint>

// The seam between the backend and the translation units of the instruction sets: plain structs and
// function pointers only, because those units may emit no inline function (see simd_avx2.h).
namespace phi::kernels {

// Rows of operands that one pass over a weight matrix multiplies. More rows are done block by
// block, each reading the weights again, which costs little next to that much arithmetic and bounds
// the scratch memory.
inline constexpr int kMaxBlockRows = 256;

// Positions in one block of keys or values; the lanes of the score vectors.
inline constexpr int kAttentionBlock = 16;

// The operands of a product, [rows, cols] row-major.
struct OperandRows {
  const std::byte* data = nullptr;
  int64_t stride = 0;                  // elements
  const int32_t* row_index = nullptr;  // where row r is; null = r
  int64_t cols = 0;
};

// What a product does with its sums y [rows, outputs]. Outputs below `split` get y + bias in
// `plain`; the others gelu_new(y + bias) in `gelu`, in operand dtype.
struct ProductOutput {
  const float* bias = nullptr;  // [outputs]; null = none
  float* plain = nullptr;       // [rows, split]
  int64_t split = 0;
  std::byte* gelu = nullptr;  // [rows, outputs - split]
  int64_t gelu_stride = 0;
};

// One pass of a product: `rows` <= kMaxBlockRows packed operands against panels of a weight matrix.
struct ProductArgs {
  int64_t rows = 0;
  const std::byte* operands = nullptr;  // as pack_operands left them
  const std::byte* weights = nullptr;   // CpuPackedMatrix::data()
  int64_t steps = 0;                    // of a panel
  int64_t outputs = 0;
  ProductOutput output;
};

struct NormArgs {
  float* hidden = nullptr;  // [rows, size]
  const float* partial =
      nullptr;  // [rows, size], added to hidden together with bias first; null = neither
  const float* bias = nullptr;
  const float* gamma = nullptr;
  const float* beta = nullptr;
  float epsilon = 0;
  int64_t size = 0;
  std::byte* out = nullptr;
  int64_t out_stride = 0;  // elements
};

// Some query rows of one head of one sequence, in consecutive positions.
struct AttentionArgs {
  const float* query = nullptr;  // of the first row
  int64_t query_stride = 0;
  std::byte* out = nullptr;  // of the first row
  int64_t out_stride = 0;    // elements
  int64_t rows = 0;
  int64_t first_position = 0;
  int64_t head_dim = 0;
  float scale = 0;                  // of the scores
  const std::byte* keys = nullptr;  // block 0 of the layer, at this key-value head
  const std::byte* values = nullptr;
  int64_t block_stride = 0;            // bytes
  const int32_t* block_ids = nullptr;  // of the sequence
};

// The kernels of one instruction set and dtype. Ranges are [first, end).
struct KernelTable {
  // Rows first .. end - 1 of the operands into `packed`, for `block_rows` rows in all.
  void (*pack_operands)(
      const OperandRows& in, int64_t block_rows, int64_t first, int64_t end, std::byte* packed);
  // Panels first .. end - 1. `scratch` holds kProductScratchFloats and is this thread's.
  void (*multiply)(const ProductArgs& args, int64_t first, int64_t end, float* scratch);
  // Rows first .. end - 1.
  void (*normalize)(const NormArgs& args, int64_t first, int64_t end);
  // `scratch` holds AttentionScratchFloats(head_dim) and is this thread's.
  void (*attend)(const AttentionArgs& args, float* scratch);
  // Bytes of a packed operand row of `steps` steps.
  int64_t (*packed_row_bytes)(int64_t steps);
};

// Panels whose sums a thread keeps at a time.
inline constexpr int64_t kGroupPanels = 8;
inline constexpr int64_t kProductScratchFloats = kMaxBlockRows * kGroupPanels * 16;

// Keys of a head in a block are [head_dim][16 positions], values [16 positions][head_dim]; both
// take head_dim rounded up to whole vectors, for which the values need it.
// Inlined whatever the optimisation, so that no unit emits it.
[[gnu::always_inline]] constexpr int64_t PaddedHeadDim(int64_t head_dim) {
  return (head_dim + 15) / 16 * 16;
}
inline constexpr int64_t kMaxAttentionRows = 8;
[[gnu::always_inline]] constexpr int64_t AttentionScratchFloats(int64_t head_dim) {
  return kMaxAttentionRows * PaddedHeadDim(head_dim);
}

extern const KernelTable kAvx2Float32Kernels;
extern const KernelTable kAvx2BFloat16Kernels;
extern const KernelTable kAvx512Float32Kernels;
extern const KernelTable kAvx512BFloat16Kernels;
extern const KernelTable kAvx512Bf16BFloat16Kernels;

}  // namespace phi::kernels
