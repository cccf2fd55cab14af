// Any bytes as a safetensors file: refused with one line, or tensors that lie inside of it.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "kernels/base/check.h"
#include "shard/checkpoint/safetensors_header.h"
#include "tests/fuzz/one_line.h"

namespace {

void CheckFile(std::span<const std::byte> file) {
  const auto entries = phi::shard::ParseSafetensorsHeader(file);
  if (!entries.ok()) {
    phi::CheckOneLine(entries.status());
    return;
  }
  uint64_t end = 8;  // the data begins behind the header's length, in 8 bytes, and the header
  for (size_t i = 0; i < 8; ++i) end += std::to_integer<uint64_t>(file[i]) << (8 * i);
  for (const phi::shard::SafetensorsEntry& entry : *entries) {
    PHI_CHECK(entry.begin == end && entry.end >= entry.begin && entry.end <= file.size(),
              "tensor %s",
              entry.name.c_str());
    end = entry.end;
  }
  PHI_CHECK(end == file.size(), "%zu bytes left", file.size() - static_cast<size_t>(end));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  CheckFile(std::as_bytes(std::span(data, size)));
  // Most inputs die at the header's length, so the same bytes are a header too: up to the first
  // zero byte, then data.
  const std::string text(reinterpret_cast<const char*>(data), size);
  const size_t header_bytes = std::min(text.find('\0'), size);
  std::string file;
  for (int i = 0; i < 8; ++i) file.push_back(static_cast<char>((header_bytes >> (8 * i)) & 0xFFU));
  file += text;
  CheckFile(std::as_bytes(std::span(file)));
  return 0;
}
