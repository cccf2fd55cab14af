#pragma once

#include <cstdint>

#include "shard/checkpoint/model_config.h"
#include "tools/capacity/accelerator.h"

// How long steps would take: a roofline with the costs that it leaves out added. Modelled, never
// measured.
namespace phi::tools {

// One rank of a group of world_size, and what a step makes it read.
struct RankLoad {
  int world_size = 1;
  double matrix_bytes = 0;        // weights that every step reads: all but the embedding
  double matrix_elements = 0;     // as many multiplications and additions a row
  double kv_bytes_per_token = 0;  // of one position in all layers
};

//   seconds = max(bytes / (0.85 bandwidth), flops / (0.6 peak)) + launches + collectives
//
// 0.85 of the bandwidth and 0.6 of the peak are what good kernels reach. A kernel costs 1.3 us (the
// gap inside a CUDA graph): 3 a layer up to 8 rows, 8 above. A small all-reduce costs NCCL's 6.6 us
// and 0.6 us a step of its ring (its src/graph/tuning.cc), and its bytes over the link.
double DecodeStepSeconds(const shard::ModelConfig& config,
                         const RankLoad& load,
                         const Accelerator& device,
                         int batch,
                         int context_tokens);

// One step of so many rows of prompts, attention's quadratic part included for prompts of that
// length.
double PrefillStepSeconds(const shard::ModelConfig& config,
                          const RankLoad& load,
                          const Accelerator& device,
                          int rows);

}  // namespace phi::tools
