#pragma once

#include <cstddef>
#include <cstdint>
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

}  // namespace phi::kernels
