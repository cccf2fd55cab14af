#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

// The header of a safetensors file.
// Source: huggingface/safetensors, README.md (Format): eight bytes of header length, little-endian;
// the header, JSON; then the data, which the tensors fill without overlap, hole or rest.
namespace phi::shard {

inline constexpr uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;
// More than the largest model that ModelConfig allows needs, and small enough to hold in memory.
inline constexpr size_t kMaxSafetensorsTensors = 65'536;

struct SafetensorsEntry {
  std::string name;
  std::string dtype;  // as written: "F32", "BF16", "I64", ...
  std::vector<int64_t> shape;
  uint64_t begin = 0;  // bytes from the start of the file; no alignment is promised
  uint64_t end = 0;
};

// The tensors of a whole file in order of their data. INVALID_ARGUMENT, naming the tensor where
// there is one, for a file that breaks the format. What is allocated is bounded by the header's
// bytes and kMaxSafetensorsTensors, never by a size that the file declares.
absl::StatusOr<std::vector<SafetensorsEntry>> ParseSafetensorsHeader(
    std::span<const std::byte> file);

}  // namespace phi::shard
