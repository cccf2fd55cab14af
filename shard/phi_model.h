#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "shard/checkpoint/model_config.h"
#include "shard/collective/communicator.h"
#include "shard/kv_cache.h"
#include "shard/partition.h"
#include "shard/phi_weights.h"

namespace phi::shard {

// Rows that one step may have.
struct StepRowLimits {
  uint32_t rows = 0;         // T
  uint32_t logits_rows = 0;  // R
};

// The forward pass of a PhiForCausalLM on one tensor-parallel rank.
// Source: Hugging Face modeling_phi.py, PhiModel and PhiForCausalLM.
//
// Memory: all activations at their maximum are taken in Create (I6). Threads: one caller.
class PhiModel {
 public:
  struct Parts {
    ModelConfig config;
    RankPartition partition;
    StepRowLimits limits;
    PhiWeights weights;
    KvCache kv_cache;
    kernels::Backend* backend = nullptr;  // these two outlive the model
    Communicator* communicator = nullptr;
  };

  // RESOURCE_EXHAUSTED when the device has no room.
  static absl::StatusOr<std::unique_ptr<PhiModel>> Create(Parts parts);

  // The device memory that Create takes beside `parts`.
  static size_t ActivationBytes(const ModelConfig& config,
                                const RankPartition& partition,
                                const StepRowLimits& limits,
                                const kernels::MemoryLayout& layout);

  // Runs all layers over `batch` and leaves the logits of its logits_rows in local_logits().
  //
  // Collectives: exactly num_layers AllReduceSum of T * hidden_size values. Every rank must call
  // with the same batch in the same order (I4), or the group hangs until its deadline. KV: the
  // batch's block_copies come first; then the slots of its positions are written, and earlier ones
  // of its sequences read. Waits for
  // the device. Errors: UNAVAILABLE if a collective fails, or what the device met; the model is
  // then unusable (I5).
  absl::Status Forward(const kernels::StepBatch& batch);

  // [R, local vocab_rows] float32 on the device, as the last Forward left it.
  float* local_logits() const;

 private:
  struct Buffers {
    std::unique_ptr<kernels::DeviceBuffer> rotary;    // [max_positions, rotary_dim] float32
    std::unique_ptr<kernels::DeviceBuffer> hidden;    // [T, hidden_size] float32
    std::unique_ptr<kernels::DeviceBuffer> normed;    // [T, hidden_size] operands
    std::unique_ptr<kernels::DeviceBuffer> qkv;       // [T, local qkv_cols] float32
    std::unique_ptr<kernels::DeviceBuffer> branches;  // [T, local query_cols + mlp_cols] operands
    std::unique_ptr<kernels::DeviceBuffer> partial;   // [T, hidden_size] float32
    std::unique_ptr<kernels::DeviceBuffer> logits;    // [R, local vocab_rows] float32
  };

  explicit PhiModel(Parts parts);

  absl::Status ForwardLayer(int layer, const kernels::NormWeights& next_norm, int64_t num_rows);
  // The LayerNorm before layer `layer`; that of num_layers is the final one.
  kernels::NormWeights Norm(int layer) const;

  const Parts parts_;
  const kernels::AttentionShape shape_;  // local heads
  Buffers buffers_;
  kernels::Operands normed_;
  // [a | gelu_new(u)], the inputs of W_out: attention writes the left columns, the MLP the right
  // ones.
  kernels::Operands branches_;
  kernels::Operands mlp_branch_;
};

}  // namespace phi::shard
