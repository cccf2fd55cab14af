#pragma once

#include <cublasLt.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/runtime/device_memory.h"
#include "kernels/cuda/runtime/handles.h"

namespace phi::kernels::cuda {

// Products by cuBLASLt: operands in, float32 out, sums in float32 (TF32 off), without bias and
// activation. Which order its sums have depends on the number of rows.
class LibraryProduct {
 public:
  static absl::StatusOr<std::unique_ptr<LibraryProduct>> Create(DType dtype, cudaStream_t stream);

  // Whether its loads may be as wide as the algorithms want: rows at 16-byte boundaries.
  static bool Takes(const InputRows& in, DType dtype);

  // out [rows, weights.outputs] = in · W^T, queued on `stream`; rows without an index. Asks the
  // library for an algorithm the first time that it sees such a shape. UNIMPLEMENTED where it has
  // none.
  absl::Status Multiply(const InputRows& in,
                        int64_t rows,
                        const PackedWeights& weights,
                        float* out,
                        cudaStream_t stream);

  static constexpr size_t kWorkspaceBytes = size_t{32} << 20;

 private:
  struct Shape {
    int64_t rows, outputs, cols, padded_cols, stride;
    // NOLINTNEXTLINE(modernize-use-nullptr): clang-tidy 14 misreads a defaulted <=>.
    auto operator<=>(const Shape&) const = default;
  };
  struct Plan {
    LtLayout weights;
    LtLayout in;
    LtLayout out;
    std::optional<cublasLtMatmulAlgo_t> algorithm;  // nothing: the library has none
  };
  // More shapes than steps of a few thousand rows have; the plans are forgotten beyond it (I6).
  static constexpr size_t kMaxPlans = 16384;

  explicit LibraryProduct(DType dtype);
  absl::StatusOr<const Plan*> PlanOf(const Shape& shape);
  absl::Status MakePlan(const Shape& shape, Plan* plan) const;

  const cudaDataType_t type_;
  LtHandle handle_;
  LtMatmulDesc operation_;
  LtPreference preference_;
  std::unique_ptr<DeviceMemory> workspace_;
  std::map<Shape, Plan> plans_;
};

}  // namespace phi::kernels::cuda
