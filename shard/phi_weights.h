#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "shard/checkpoint/model_config.h"
#include "shard/checkpoint/safetensors.h"
#include "shard/partition.h"

namespace phi::shard {

// gamma and beta of one LayerNorm, whole on every rank: [hidden_size] float32.
struct NormBuffers {
  std::unique_ptr<kernels::DeviceBuffer> gamma;
  std::unique_ptr<kernels::DeviceBuffer> beta;

  kernels::NormWeights View(float epsilon) const;
};

// One layer's share of one rank (ARCHITECTURE.md, the model on N ranks). Q, K and V are cut each by
// heads, W1 by MLP columns.
//   W_in  = [Wq; Wk; Wv; W1]  [local_qkv_cols + local_mlp_cols, hidden_size]
//   W_out = [Wo | W2]         [hidden_size, local_query_cols + local_mlp_cols]
struct LayerWeights {
  NormBuffers norm;
  std::unique_ptr<kernels::PackedMatrix> w_in;
  std::unique_ptr<kernels::DeviceBuffer> b_in;  // float32, one for each row of w_in
  std::unique_ptr<kernels::PackedMatrix> w_out;
  std::unique_ptr<kernels::DeviceBuffer>
      b_out;  // bo + b2, [hidden_size] float32, whole: added once, after the all-reduce
};

// All that one rank keeps of a checkpoint.
struct PhiWeights {
  std::unique_ptr<kernels::DeviceBuffer> embedding;  // [vocab_size, hidden_size], whole
  std::vector<LayerWeights> layers;
  NormBuffers final_norm;
  std::unique_ptr<kernels::PackedMatrix>
      head;  // [local_vocab_rows, hidden_size]; null where this rank has no rows
  std::unique_ptr<kernels::DeviceBuffer> head_bias;  // [local_vocab_rows] float32; null likewise
};

struct PhiWeightsOptions {
  bool verify = true;  // refuse NaN and infinity in what this rank reads
};

// The device memory that LoadPhiWeights would take.
size_t PhiWeightsBytes(const ModelConfig& config,
                       const RankPartition& partition,
                       const kernels::MemoryLayout& layout);

// The shapes of one rank's attention.
kernels::AttentionShape LocalAttentionShape(const ModelConfig& config,
                                            const RankPartition& partition);

// Packs this rank's slices straight from the mapped files, a matrix at a time, and gives each
// matrix's pages back: the peak is what is packed plus one matrix. All names, shapes and dtypes are
// checked before anything is allocated. INVALID_ARGUMENT naming the tensor; the backend's errors as
// they are.
absl::StatusOr<PhiWeights> LoadPhiWeights(const Checkpoint& checkpoint,
                                          const ModelConfig& config,
                                          const RankPartition& partition,
                                          kernels::Backend& backend,
                                          const PhiWeightsOptions& options);

}  // namespace phi::shard
