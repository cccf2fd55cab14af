#include "kernels/cpu/packed_matrix.h"

#include <algorithm>

#include "absl/status/status.h"
#include "kernels/base/check.h"
#include "kernels/base/convert.h"
#include "kernels/base/status_macros.h"
#include "kernels/base/weight_cover.h"

namespace phi::kernels {
namespace {

// Columns packed for all rows of a panel before moving on, so that the panel's lines stay in the
// first-level cache between one row's writes and the next's.
constexpr int64_t kColumnBlock = 128;

// Some columns of one row of the packed matrix from `from` on; `to` is the row's place at column 0.
template <class Reader>
void PackRow(const std::byte* from, Share cols, DType dtype, std::byte* to) {
  if (dtype == DType::kFloat32) {
    auto* floats = reinterpret_cast<float*>(to);
    for (int64_t col = cols.first; col < cols.end; ++col, from += Reader::kBytes) {
      floats[col * kPanelRows] = Reader::Read(from);
    }
    return;
  }
  // A bfloat16 checkpoint keeps its bits: widening and rounding again is the identity on it.
  auto* halves = reinterpret_cast<uint16_t*>(to);
  for (int64_t col = cols.first; col < cols.end; ++col, from += Reader::kBytes) {
    halves[col / 2 * kPanelRows * 2 + col % 2] = FloatToBFloat16(Reader::Read(from));
  }
}

}  // namespace

size_t CpuPackedMatrix::PackedBytes(DType dtype, int64_t rows, int64_t cols) {
  return static_cast<size_t>((rows + kPanelRows - 1) / kPanelRows * StepsFor(dtype, cols) *
                             kStepBytes);
}

absl::StatusOr<std::unique_ptr<CpuPackedMatrix>> CpuPackedMatrix::Pack(
    DType dtype,
    int64_t rows,
    int64_t cols,
    std::span<const WeightSlice> slices,
    ThreadPool& pool) {
  PHI_CHECK(dtype != DType::kFloat16, "products are in float32 or bfloat16");
  PHI_RETURN_IF_ERROR(CheckCover(rows, cols, slices));
  auto matrix = std::unique_ptr<CpuPackedMatrix>(new CpuPackedMatrix(dtype, rows, cols));
  PHI_ASSIGN_OR_RETURN(matrix->buffer_, HostBuffer::Allocate(PackedBytes(dtype, rows, cols)));
  pool.Run([&](int thread) {
    const Share share = ShareOf(matrix->num_panels(), thread, pool.num_threads());
    for (int64_t panel = share.first; panel < share.end; ++panel) {
      for (const WeightSlice& slice : slices) matrix->PackPanel(slice, panel);
    }
  });
  return matrix;
}

void CpuPackedMatrix::PackPanel(const WeightSlice& slice, int64_t panel) {
  const int64_t first_row = std::max(panel * kPanelRows, slice.to_row);
  const int64_t end_row = std::min((panel + 1) * kPanelRows, slice.to_row + slice.rows);
  const int64_t end_col = slice.to_col + slice.cols;
  VisitReader(slice.dtype, [&](auto reader) {
    using Reader = decltype(reader);
    for (int64_t col = slice.to_col; col < end_col; col += kColumnBlock) {
      const Share cols = {col, std::min(col + kColumnBlock, end_col)};
      for (int64_t row = first_row; row < end_row; ++row) {
        const int64_t element = (row - slice.to_row) * slice.row_stride + (col - slice.to_col);
        PackRow<Reader>(
            slice.data + element * Reader::kBytes, cols, dtype_, buffer_.data() + OffsetOf(row, 0));
      }
    }
  });
}

size_t CpuPackedMatrix::OffsetOf(int64_t row, int64_t col) const {
  const int64_t per_step = InputsPerStep(dtype_);
  const int64_t step = row / kPanelRows * steps() + col / per_step;
  const int64_t element = (row % kPanelRows) * per_step + col % per_step;
  return static_cast<size_t>(step * kStepBytes +
                             element * static_cast<int64_t>(DTypeBytes(dtype_)));
}

float CpuPackedMatrix::At(int64_t row, int64_t col) const {
  const std::byte* from = buffer_.data() + OffsetOf(row, col);
  return dtype_ == DType::kFloat32 ? ReadFloat32::Read(from) : ReadBFloat16::Read(from);
}

}  // namespace phi::kernels
