#pragma once

// Barriers and warp operations of the CUDA C++ Programming Guide, sections "Synchronization
// Functions", "Warp Vote", "Warp Reduce" and "Warp Shuffle Functions", for kernels built by the
// host compiler. Each notes the line that it is called from.
#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>

#include "tests/cuda_host/grid.h"

#define PHI_CUDA_HOST_CALLER const char *file = __builtin_FILE(), int line = __builtin_LINE()

namespace phi::cuda_host {

struct Exchange {
  uint64_t value = 0;  // in: the lane's own; out: the source lane's
  unsigned source = 0;
};
void ExchangeValues(void* const operands[kWarp], unsigned mask);

void BallotValues(void* const operands[kWarp], unsigned mask);

inline unsigned LaneId() { return current_thread->linear % 32; }

template <typename T>
T ShuffleFrom(unsigned mask, T value, unsigned source, SourceLine where) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
  Exchange exchange = {.source = source};
  std::memcpy(&exchange.value, &value, sizeof(T));
  WarpOperation(mask, &ExchangeValues, &exchange, where, /*orders_memory=*/false);
  std::memcpy(&value, &exchange.value, sizeof(T));
  return value;
}

inline uint32_t Vote(unsigned mask, bool predicate, SourceLine where) {
  uint64_t value = predicate ? 1 : 0;
  WarpOperation(mask, &BallotValues, &value, where, /*orders_memory=*/false);
  return static_cast<uint32_t>(value);
}

// Folds the lanes' values, by shuffles over the lanes of the mask from the lowest upwards.
template <typename T, typename Fold>
T ReduceLanes(unsigned mask, T value, Fold fold, SourceLine where) {
  T result = ShuffleFrom(mask, value, static_cast<unsigned>(std::countr_zero(mask)), where);
  for (unsigned rest = mask & (mask - 1); rest != 0; rest &= rest - 1) {
    const auto lane = static_cast<unsigned>(std::countr_zero(rest));
    result = fold(result, ShuffleFrom(mask, value, lane, where));
  }
  return result;
}

}  // namespace phi::cuda_host

inline void __syncthreads(PHI_CUDA_HOST_CALLER) { phi::cuda_host::BlockBarrier({file, line}); }

inline void __syncwarp(unsigned mask = 0xffffffffU, PHI_CUDA_HOST_CALLER) {
  phi::cuda_host::WarpOperation(mask, nullptr, nullptr, {file, line}, /*orders_memory=*/true);
}

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, PHI_CUDA_HOST_CALLER) {
  const unsigned self = phi::cuda_host::LaneId();
  const auto group = static_cast<unsigned>(width);
  const unsigned from = self / group * group + static_cast<unsigned>(source) % group;
  return phi::cuda_host::ShuffleFrom(mask, value, from, {file, line});
}

template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, PHI_CUDA_HOST_CALLER) {
  const unsigned self = phi::cuda_host::LaneId();
  const unsigned in_group = self % static_cast<unsigned>(width);
  const unsigned from = in_group >= delta ? self - delta : self;
  return phi::cuda_host::ShuffleFrom(mask, value, from, {file, line});
}

template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, PHI_CUDA_HOST_CALLER) {
  const unsigned self = phi::cuda_host::LaneId();
  const unsigned in_group = self % static_cast<unsigned>(width);
  const unsigned from = in_group + delta < static_cast<unsigned>(width) ? self + delta : self;
  return phi::cuda_host::ShuffleFrom(mask, value, from, {file, line});
}

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, PHI_CUDA_HOST_CALLER) {
  const unsigned self = phi::cuda_host::LaneId();
  const unsigned from = self ^ static_cast<unsigned>(lane_mask);
  // The guide: a lane of a later group gives the caller its own value.
  const bool later = from / static_cast<unsigned>(width) > self / static_cast<unsigned>(width);
  return phi::cuda_host::ShuffleFrom(mask, value, later ? self : from, {file, line});
}

inline unsigned __ballot_sync(unsigned mask, int predicate, PHI_CUDA_HOST_CALLER) {
  return phi::cuda_host::Vote(mask, predicate != 0, {file, line});
}
inline int __any_sync(unsigned mask, int predicate, PHI_CUDA_HOST_CALLER) {
  return phi::cuda_host::Vote(mask, predicate != 0, {file, line}) != 0 ? 1 : 0;
}
inline int __all_sync(unsigned mask, int predicate, PHI_CUDA_HOST_CALLER) {
  return phi::cuda_host::Vote(mask, predicate != 0, {file, line}) == mask ? 1 : 0;
}

template <typename T>
T __reduce_add_sync(unsigned mask, T value, PHI_CUDA_HOST_CALLER) {
  return phi::cuda_host::ReduceLanes(
      mask, value, [](T a, T b) { return static_cast<T>(a + b); }, {file, line});
}
template <typename T>
T __reduce_min_sync(unsigned mask, T value, PHI_CUDA_HOST_CALLER) {
  return phi::cuda_host::ReduceLanes(
      mask, value, [](T a, T b) { return std::min(a, b); }, {file, line});
}
template <typename T>
T __reduce_max_sync(unsigned mask, T value, PHI_CUDA_HOST_CALLER) {
  return phi::cuda_host::ReduceLanes(
      mask, value, [](T a, T b) { return std::max(a, b); }, {file, line});
}
