#include "kernels/cuda/runtime/step_upload.h"

#include <algorithm>
#include <utility>

#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"

namespace phi::kernels::cuda {
namespace {

constexpr int64_t kTileWords = sizeof(AttentionTile) / sizeof(int32_t);

void Copy(std::span<const int32_t> from, int32_t* to) { std::copy(from.begin(), from.end(), to); }

}  // namespace

StepUpload::Offsets StepUpload::OffsetsOf(const Limits& limits) {
  // Tables begin at 16-byte boundaries.
  const int64_t rows = (limits.rows + 3) / 4 * 4;
  const int64_t tiles = 5 * rows;
  // Each row is a tile of its own at worst.
  const int64_t block_ids = tiles + rows * kTileWords;
  return {.token_ids = 0,
          .positions = rows,
          .slots = 2 * rows,
          .first_blocks = 3 * rows,
          .logits_rows = 4 * rows,
          .tiles = tiles,
          .block_ids = block_ids,
          .end = block_ids + limits.block_ids};
}

StepUpload::StepUpload(const Limits& limits,
                       std::unique_ptr<DeviceMemory> device,
                       PinnedMemory staging)
    : limits_(limits),
      offsets_(OffsetsOf(limits)),
      device_(std::move(device)),
      staging_(std::move(staging)) {
  const auto* words = reinterpret_cast<const int32_t*>(device_->data());
  tables_ = {.token_ids = words + offsets_.token_ids,
             .positions = words + offsets_.positions,
             .slots = words + offsets_.slots,
             .first_blocks = words + offsets_.first_blocks,
             .logits_rows = words + offsets_.logits_rows,
             .tiles = reinterpret_cast<const AttentionTile*>(words + offsets_.tiles),
             .block_ids = words + offsets_.block_ids};
}

size_t StepUpload::Bytes(const Limits& limits) {
  return static_cast<size_t>(OffsetsOf(limits).end) * sizeof(int32_t);
}

absl::StatusOr<std::unique_ptr<StepUpload>> StepUpload::Create(const Limits& limits,
                                                               cudaStream_t stream) {
  const size_t bytes = Bytes(limits);
  PHI_ASSIGN_OR_RETURN(std::unique_ptr<DeviceMemory> device, DeviceMemory::Allocate(bytes, stream));
  void* staging = nullptr;
  PHI_RETURN_IF_ERROR(CudaStatus(cudaMallocHost(&staging, bytes), "allocating pinned memory"));
  return std::unique_ptr<StepUpload>(
      new StepUpload(limits, std::move(device), PinnedMemory(staging)));
}

cudaError_t StepUpload::Queue(const StepBatch& batch, cudaStream_t stream) {
  PHI_CHECK(batch.num_rows() <= limits_.rows && batch.num_logits_rows() <= limits_.rows &&
                static_cast<int64_t>(batch.block_ids.size()) <= limits_.block_ids,
            "a step of %lld rows, %lld logits and %zu block ids",
            static_cast<long long>(batch.num_rows()),
            static_cast<long long>(batch.num_logits_rows()),
            batch.block_ids.size());
  Copy(batch.token_ids, Staged(offsets_.token_ids));
  Copy(batch.positions, Staged(offsets_.positions));
  Copy(batch.logits_rows, Staged(offsets_.logits_rows));
  Copy(batch.block_ids, Staged(offsets_.block_ids));
  FillRows(batch);
  tables_.num_rows = batch.num_rows();
  tables_.num_logits_rows = batch.num_logits_rows();
  tables_.num_tiles = FillTiles(batch);
  is_decode_ = static_cast<int64_t>(batch.sequences.size()) == batch.num_rows();
  const auto words = offsets_.block_ids + static_cast<int64_t>(batch.block_ids.size());
  return cudaMemcpyAsync(device_->data(),
                         staging_.get(),
                         static_cast<size_t>(words) * sizeof(int32_t),
                         cudaMemcpyHostToDevice,
                         stream);
}

void StepUpload::FillRows(const StepBatch& batch) {
  int32_t* slots = Staged(offsets_.slots);
  int32_t* first_blocks = Staged(offsets_.first_blocks);
  for (const SequenceRows& sequence : batch.sequences) {
    for (int32_t i = 0; i < sequence.num_rows; ++i) {
      const int32_t row = sequence.first_row + i;
      const int32_t position = sequence.first_position + i;
      const size_t entry = static_cast<size_t>(sequence.first_block) +
                           static_cast<size_t>(position / kKvBlockTokens);
      first_blocks[row] = sequence.first_block;
      // A batch that only multiplies has no cache.
      slots[row] = entry < batch.block_ids.size()
                       ? batch.block_ids[entry] * kKvBlockTokens + position % kKvBlockTokens
                       : 0;
    }
  }
}

int64_t StepUpload::FillTiles(const StepBatch& batch) {
  auto* tiles = reinterpret_cast<AttentionTile*>(Staged(offsets_.tiles));
  int64_t count = 0;
  for (const SequenceRows& sequence : batch.sequences) {
    for (int32_t first = 0; first < sequence.num_rows; first += kTileRows) {
      tiles[count++] = {.first_row = sequence.first_row + first,
                        .num_rows = std::min(kTileRows, sequence.num_rows - first),
                        .first_position = sequence.first_position + first,
                        .first_block = sequence.first_block};
    }
  }
  return count;
}

}  // namespace phi::kernels::cuda
