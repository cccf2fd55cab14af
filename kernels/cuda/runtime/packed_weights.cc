#include "kernels/cuda/runtime/packed_weights.h"

#include <algorithm>
#include <vector>

#include "kernels/base/convert.h"
#include "kernels/base/status_macros.h"
#include "kernels/base/weight_cover.h"

namespace phi::kernels::cuda {
namespace {

// Host memory that one upload is put together in.
constexpr int64_t kStagingBytes = int64_t{16} << 20;

// Converts row `row` of the slice to `to`.
void ConvertSliceRow(const WeightSlice& slice, int64_t row, DType dtype, std::byte* to) {
  const auto element = static_cast<int64_t>(DTypeBytes(slice.dtype));
  ConvertRow(slice.dtype, slice.data + row * slice.row_stride * element, slice.cols, dtype, to);
}

}  // namespace

absl::StatusOr<std::unique_ptr<PackedDeviceMatrix>> PackedDeviceMatrix::Pack(
    DType dtype,
    int64_t rows,
    int64_t cols,
    std::span<const WeightSlice> slices,
    cudaStream_t stream) {
  PHI_RETURN_IF_ERROR(CheckCover(rows, cols, slices));
  PHI_ASSIGN_OR_RETURN(std::unique_ptr<DeviceMemory> memory,
                       DeviceMemory::Allocate(PackedMatrixBytes(dtype, rows, cols), stream));
  const auto element = static_cast<int64_t>(DTypeBytes(dtype));
  const int64_t row_bytes = PadPacked(cols) * element;
  const int64_t batch_rows = std::max<int64_t>(kStagingBytes / row_bytes, 1);
  std::vector<std::byte> staging;
  for (int64_t first = 0; first < rows; first += batch_rows) {
    const int64_t end = std::min(first + batch_rows, rows);
    staging.assign(static_cast<size_t>((end - first) * row_bytes), std::byte{0});
    for (const WeightSlice& slice : slices) {
      for (int64_t row = std::max(first, slice.to_row);
           row < std::min(end, slice.to_row + slice.rows);
           ++row) {
        ConvertSliceRow(slice,
                        row - slice.to_row,
                        dtype,
                        staging.data() + (row - first) * row_bytes + slice.to_col * element);
      }
    }
    PHI_RETURN_IF_ERROR(memory->Upload(
        staging.data(), staging.size(), static_cast<size_t>(first * row_bytes), stream));
  }
  const PackedWeights weights = {
      .data = memory->data(), .outputs = rows, .cols = cols, .padded_cols = PadPacked(cols)};
  return std::unique_ptr<PackedDeviceMatrix>(new PackedDeviceMatrix(std::move(memory), weights));
}

absl::StatusOr<std::unique_ptr<DeviceMemory>> UploadRows(DType dtype,
                                                         const WeightSlice& slice,
                                                         cudaStream_t stream) {
  const int64_t row_bytes = slice.cols * static_cast<int64_t>(DTypeBytes(dtype));
  PHI_ASSIGN_OR_RETURN(std::unique_ptr<DeviceMemory> memory,
                       DeviceMemory::Allocate(static_cast<size_t>(slice.rows * row_bytes), stream));
  if (memory->bytes() == 0) return memory;
  const int64_t batch_rows = std::max<int64_t>(kStagingBytes / row_bytes, 1);
  std::vector<std::byte> staging;
  for (int64_t first = 0; first < slice.rows; first += batch_rows) {
    const int64_t end = std::min(first + batch_rows, slice.rows);
    staging.resize(static_cast<size_t>((end - first) * row_bytes));
    for (int64_t row = first; row < end; ++row) {
      ConvertSliceRow(slice, row, dtype, staging.data() + (row - first) * row_bytes);
    }
    PHI_RETURN_IF_ERROR(memory->Upload(
        staging.data(), staging.size(), static_cast<size_t>(first * row_bytes), stream));
  }
  return memory;
}

}  // namespace phi::kernels::cuda
