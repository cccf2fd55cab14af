#include "kernels/cuda/runtime/products.h"

#include <algorithm>

#include "kernels/base/status_macros.h"
#include "kernels/cuda/runtime/handles.h"

namespace phi::kernels::cuda {
namespace {

constexpr size_t kGatheredBytes = size_t{8} << 20;
constexpr size_t kRawBytes = size_t{64} << 20;
// CUDA's largest gridDim.y, which is the rows of some kernels.
constexpr int64_t kMostGridRows = 65535;

// The output of the rows from `row` on.
ProductOutput FromRow(ProductOutput output, int64_t row, DType dtype) {
  const auto element = static_cast<int64_t>(DTypeBytes(dtype));
  output.plain += row * output.split;
  if (output.gelu != nullptr) {
    output.gelu = static_cast<std::byte*>(output.gelu) + row * output.gelu_stride * element;
  }
  if (output.residual != nullptr) output.residual += row * output.split;
  return output;
}

InputRows FromRow(InputRows in, int64_t row, DType dtype) {
  if (in.row_index != nullptr) {
    in.row_index += row;
  } else {
    in.data = static_cast<const std::byte*>(in.data) +
              row * in.stride * static_cast<int64_t>(DTypeBytes(dtype));
  }
  return in;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Products>> Products::Create(const KernelContext& context,
                                                           bool batch_invariant) {
  auto products = std::unique_ptr<Products>(new Products(context, batch_invariant));
  if (batch_invariant) return products;
  PHI_ASSIGN_OR_RETURN(products->library_, LibraryProduct::Create(context.dtype, context.stream));
  PHI_ASSIGN_OR_RETURN(products->gathered_, DeviceMemory::Allocate(kGatheredBytes, context.stream));
  PHI_ASSIGN_OR_RETURN(products->raw_, DeviceMemory::Allocate(kRawBytes, context.stream));
  return products;
}

size_t Products::ScratchBytes() {
  return kGatheredBytes + kRawBytes + LibraryProduct::kWorkspaceBytes;
}

absl::Status Products::Multiply(const InputRows& in,
                                int64_t rows,
                                const PackedWeights& weights,
                                const ProductOutput& output) {
  const bool is_float = context_.dtype == DType::kFloat32;
  if (!batch_invariant_) {
    if (rows <= kMaxSmallRows) return MultiplySmall(in, rows, weights, output);
    absl::Status status = MultiplyByLibrary(in, rows, weights, output);
    if (!absl::IsUnimplemented(status)) return status;
  }
  if (is_float) return MultiplySmall(in, rows, weights, output);
  return CudaStatus(TileProduct(context_, in, rows, weights, output), "TileProduct");
}

absl::Status Products::MultiplySmall(InputRows in,
                                     int64_t rows,
                                     const PackedWeights& weights,
                                     ProductOutput output) {
  const int64_t most = SmallProductRows(context_, weights.padded_cols, false);
  while (rows > 0) {
    const int64_t part = std::min(rows, most);
    PHI_RETURN_IF_ERROR(
        CudaStatus(SmallProduct(context_, in, {}, part, weights, output), "SmallProduct"));
    in = FromRow(in, part, context_.dtype);
    output = FromRow(output, part, context_.dtype);
    rows -= part;
  }
  return absl::OkStatus();
}

absl::Status Products::MultiplyByLibrary(InputRows in,
                                         int64_t rows,
                                         const PackedWeights& weights,
                                         ProductOutput output) {
  if (in.row_index != nullptr) {
    const auto bytes = static_cast<size_t>(rows * weights.cols) * DTypeBytes(context_.dtype);
    if (bytes > kGatheredBytes || rows > kMostGridRows)
      return absl::UnimplementedError("too many rows to gather");
    PHI_RETURN_IF_ERROR(
        CudaStatus(GatherRows(context_, in, rows, weights.cols, gathered_->data()), "GatherRows"));
    in = {.data = gathered_->data(), .stride = weights.cols};
  }
  if (!LibraryProduct::Takes(in, context_.dtype)) {
    return absl::UnimplementedError("rows are not aligned");
  }
  // As many rows at a time as the raw products and a grid have room for; fours of them, so that the
  // outputs of each part begin at 16-byte boundaries, which the library's plans count on.
  const int64_t raw_row_bytes =
      (weights.outputs - output.split) * static_cast<int64_t>(sizeof(float));
  int64_t most = kMostGridRows;
  if (raw_row_bytes > 0) most = std::min(most, static_cast<int64_t>(kRawBytes) / raw_row_bytes);
  most = most / 4 * 4;
  if (most == 0) return absl::UnimplementedError("rows are too wide");
  while (rows > 0) {
    const int64_t part = std::min(rows, most);
    PHI_RETURN_IF_ERROR(MultiplyRowsByLibrary(in, part, weights, output));
    in = FromRow(in, part, context_.dtype);
    output = FromRow(output, part, context_.dtype);
    rows -= part;
  }
  return absl::OkStatus();
}

absl::Status Products::MultiplyRowsByLibrary(const InputRows& in,
                                             int64_t rows,
                                             const PackedWeights& weights,
                                             const ProductOutput& output) {
  auto* raw = reinterpret_cast<float*>(raw_->data());
  PackedWeights plain = weights;
  plain.outputs = output.split;
  PackedWeights gelu = weights;
  gelu.outputs = weights.outputs - output.split;
  gelu.data = static_cast<const std::byte*>(weights.data) +
              output.split * weights.padded_cols * static_cast<int64_t>(DTypeBytes(context_.dtype));
  // The narrower one may fail alone: the other's work is then done again by whoever steps in.
  if (plain.outputs > 0) {
    PHI_RETURN_IF_ERROR(library_->Multiply(in, rows, plain, output.plain, context_.stream));
  }
  if (gelu.outputs > 0) {
    PHI_RETURN_IF_ERROR(library_->Multiply(in, rows, gelu, raw, context_.stream));
  }
  if (output.bias == nullptr) return absl::OkStatus();
  return CudaStatus(FinishProduct(context_, raw, rows, weights.outputs, output), "FinishProduct");
}

}  // namespace phi::kernels::cuda
