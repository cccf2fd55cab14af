#pragma once

#include <span>
#include <string_view>

namespace phi::tools {

// What a data sheet says of a GPU. Nothing here was measured by us.
struct Accelerator {
  std::string_view name;
  double memory_bytes = 0;
  double bytes_per_second = 0;       // of its memory
  double flops_per_second = 0;       // bfloat16 on tensor cores, dense
  double link_bytes_per_second = 0;  // to the other GPUs of a machine, one direction
};

std::span<const Accelerator> Accelerators();

// Null where there is none of that name.
const Accelerator* FindAccelerator(std::string_view name);

}  // namespace phi::tools
