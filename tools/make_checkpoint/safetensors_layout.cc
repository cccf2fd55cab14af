#include "tools/make_checkpoint/safetensors_layout.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"

namespace phi::tools {
namespace {

const char* StoredName(kernels::DType dtype) {
  switch (dtype) {
    case kernels::DType::kFloat32:
      return "F32";
    case kernels::DType::kBFloat16:
      return "BF16";
    case kernels::DType::kFloat16:
      return "F16";
  }
  return "?";
}

SafetensorsLayout LayOutFile(std::vector<shard::TensorSpec> tensors,
                             kernels::DType dtype,
                             std::string file_name) {
  constexpr uint64_t kLengthBytes = 8;
  constexpr uint64_t kAlignment = 64;
  nlohmann::ordered_json json = {{"__metadata__", {{"format", "pt"}}}};
  std::vector<uint64_t> offsets;
  uint64_t end = 0;
  for (const shard::TensorSpec& tensor : tensors) {
    const uint64_t begin = end;
    end += ElementCount(tensor) * kernels::DTypeBytes(dtype);
    json[tensor.name] = {
        {"dtype", StoredName(dtype)}, {"shape", tensor.shape}, {"data_offsets", {begin, end}}};
    offsets.push_back(begin);
  }
  std::string text = json.dump();
  text.resize(
      (text.size() + kLengthBytes + kAlignment - 1) / kAlignment * kAlignment - kLengthBytes, ' ');
  std::string header;
  for (uint64_t i = 0; i < kLengthBytes; ++i)
    header.push_back(static_cast<char>((text.size() >> (8 * i)) & 0xFFU));
  header += text;
  for (uint64_t& offset : offsets) offset += header.size();
  const uint64_t file_bytes = header.size() + end;
  return {.file_name = std::move(file_name),
          .header = std::move(header),
          .tensors = std::move(tensors),
          .offsets = std::move(offsets),
          .file_bytes = file_bytes};
}

}  // namespace

uint64_t ElementCount(const shard::TensorSpec& tensor) {
  uint64_t count = 1;
  for (const int64_t dim : tensor.shape) count *= static_cast<uint64_t>(dim);
  return count;
}

std::vector<SafetensorsLayout> LayOut(const std::vector<shard::TensorSpec>& tensors,
                                      kernels::DType dtype,
                                      int num_files) {
  const size_t files =
      std::clamp<size_t>(static_cast<size_t>(std::max(num_files, 1)), 1, tensors.size());
  if (files == 1) return {LayOutFile(tensors, dtype, "model.safetensors")};
  std::vector<SafetensorsLayout> layouts;
  for (size_t i = 0; i < files; ++i) {
    const auto begin = tensors.begin() + static_cast<std::ptrdiff_t>(tensors.size() * i / files);
    const auto end =
        tensors.begin() + static_cast<std::ptrdiff_t>(tensors.size() * (i + 1) / files);
    layouts.push_back(LayOutFile(
        {begin, end}, dtype, absl::StrFormat("model-%05d-of-%05d.safetensors", i + 1, files)));
  }
  return layouts;
}

std::string IndexJson(const std::vector<SafetensorsLayout>& layouts) {
  uint64_t total_bytes = 0;
  nlohmann::ordered_json weight_map = nlohmann::ordered_json::object();
  for (const SafetensorsLayout& layout : layouts) {
    total_bytes += layout.file_bytes - layout.header.size();
    for (const shard::TensorSpec& tensor : layout.tensors)
      weight_map[tensor.name] = layout.file_name;
  }
  const nlohmann::ordered_json index = {{"metadata", {{"total_size", total_bytes}}},
                                        {"weight_map", weight_map}};
  return index.dump(2) + "\n";
}

}  // namespace phi::tools
