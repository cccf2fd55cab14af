#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/dtype.h"
#include "shard/checkpoint/phi_tensors.h"

namespace phi::tools {

// One safetensors file before its data: the header with its length in front, and where each
// tensor's data begins.
struct SafetensorsLayout {
  std::string file_name;
  std::string header;
  std::vector<shard::TensorSpec> tensors;
  std::vector<uint64_t> offsets;  // bytes from the start of the file
  uint64_t file_bytes = 0;
};

// `tensors`, in their order, in num_files files of nearly as many tensors each (at most one a
// tensor), named as Hugging Face names them. Data begins at a multiple of 64 bytes.
std::vector<SafetensorsLayout> LayOut(const std::vector<shard::TensorSpec>& tensors,
                                      kernels::DType dtype,
                                      int num_files);

// The text of model.safetensors.index.json.
std::string IndexJson(const std::vector<SafetensorsLayout>& layouts);

uint64_t ElementCount(const shard::TensorSpec& tensor);

}  // namespace phi::tools
