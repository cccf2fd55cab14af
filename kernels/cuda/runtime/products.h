#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/runtime/device_memory.h"
#include "kernels/cuda/runtime/library_product.h"

namespace phi::kernels::cuda {

// Chooses who multiplies. A few rows go to SmallProduct, more of them to cuBLASLt, and what that
// does not take to TileProduct or, in float32, to SmallProduct a few rows at a time. With
// batch_invariant one of the last two does all, so that a row's bits do not depend on how many rows
// there are (I1).
class Products {
 public:
  static absl::StatusOr<std::unique_ptr<Products>> Create(const KernelContext& context,
                                                          bool batch_invariant);
  // Device memory that Create takes.
  static size_t ScratchBytes();

  // Queues out = in · W^T for any number of rows. A residual is for at most kMaxSmallRows of them
  // and not for batch_invariant.
  absl::Status Multiply(const InputRows& in,
                        int64_t rows,
                        const PackedWeights& weights,
                        const ProductOutput& output);

 private:
  Products(const KernelContext& context, bool batch_invariant)
      : context_(context), batch_invariant_(batch_invariant) {}

  absl::Status MultiplySmall(InputRows in,
                             int64_t rows,
                             const PackedWeights& weights,
                             ProductOutput output);
  // UNIMPLEMENTED, with nothing queued, where the library cannot.
  absl::Status MultiplyByLibrary(InputRows in,
                                 int64_t rows,
                                 const PackedWeights& weights,
                                 ProductOutput output);
  absl::Status MultiplyRowsByLibrary(const InputRows& in,
                                     int64_t rows,
                                     const PackedWeights& weights,
                                     const ProductOutput& output);

  const KernelContext context_;
  const bool batch_invariant_;
  std::unique_ptr<LibraryProduct> library_;  // none with batch_invariant
  std::unique_ptr<DeviceMemory> gathered_;   // rows that an index picks
  std::unique_ptr<DeviceMemory> raw_;        // products before their activation
};

}  // namespace phi::kernels::cuda
