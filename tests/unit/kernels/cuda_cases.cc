#include <cuda_runtime_api.h>

#include "kernels/base/check.h"
#include "kernels/cuda/cuda_backend.h"
#include "tests/unit/kernels/backend_cases.h"

namespace phi::kernels {
namespace {

constexpr int64_t kMostRows = 8192;  // of a step in the suites

// Attention of several rows multiplies on the tensor cores, whose operands are of 16 bits.
double AttentionRoundoff(DType dtype) {
  if (dtype == DType::kFloat32) return 0;
  return dtype == DType::kBFloat16 ? 0x1p-9 : 0x1p-12;
}

}  // namespace

std::vector<BackendCase> MachineCases() {
  std::vector<BackendCase> cases;
  for (const bool batch_invariant : {true, false}) {
    for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
      cases.push_back({.name = batch_invariant ? "cuda_batch_invariant" : "cuda",
                       .dtype = dtype,
                       .batch_invariant = batch_invariant,
                       .attention_roundoff = AttentionRoundoff(dtype),
                       .thread_counts = {1},
                       .make = [=](int /*threads*/) -> std::unique_ptr<Backend> {
                         auto backend = MakeCudaBackend({.dtype = dtype,
                                                         .batch_invariant = batch_invariant,
                                                         .max_step_tokens = kMostRows,
                                                         // Each test makes calls of its own.
                                                         .max_graph_rows = 0});
                         PHI_CHECK(backend.ok(), "%s", backend.status().ToString().c_str());
                         return *std::move(backend);
                       }});
    }
  }
  return cases;
}

// Page-locked: kernels read and write it where it is.
void* AllocateVisible(size_t bytes) {
  void* memory = nullptr;
  const cudaError_t error = cudaMallocHost(&memory, bytes);
  PHI_CHECK(error == cudaSuccess, "%s", cudaGetErrorString(error));
  return memory;
}

void FreeVisible(void* memory) { cudaFreeHost(memory); }

}  // namespace phi::kernels
