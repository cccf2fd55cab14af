#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace phi::kernels {

// Element types of checkpoints, operands and caches. Named as safetensors and PyTorch name them.
enum class DType : uint8_t { kFloat32, kBFloat16, kFloat16 };

constexpr size_t DTypeBytes(DType dtype) { return dtype == DType::kFloat32 ? 4 : 2; }

constexpr std::string_view DTypeName(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "float32";
    case DType::kBFloat16:
      return "bfloat16";
    case DType::kFloat16:
      return "float16";
  }
  return "?";
}

// The one of that name, or none.
constexpr std::optional<DType> ParseDType(std::string_view name) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
    if (name == DTypeName(dtype)) return dtype;
  }
  return std::nullopt;
}

}  // namespace phi::kernels
