#include "tools/capacity/accelerator.h"

#include <algorithm>
#include <array>

namespace phi::tools {
namespace {

// NVIDIA's data sheets of these products; links are NVLink's, and PCIe 4.0 x16 where there is none.
constexpr std::array kAccelerators = {
    Accelerator{"l40s", 48e9, 0.864e12, 362e12, 32e9},
    Accelerator{"a100-40", 40e9, 1.555e12, 312e12, 300e9},
    Accelerator{"a100-80", 80e9, 2.039e12, 312e12, 300e9},
    Accelerator{"h100", 80e9, 3.35e12, 989e12, 450e9},
    Accelerator{"h200", 141e9, 4.8e12, 989e12, 450e9},
};

}  // namespace

std::span<const Accelerator> Accelerators() { return kAccelerators; }

const Accelerator* FindAccelerator(std::string_view name) {
  const auto* found = std::find_if(kAccelerators.begin(),
                                   kAccelerators.end(),
                                   [&](const Accelerator& one) { return one.name == name; });
  return found == kAccelerators.end() ? nullptr : found;
}

}  // namespace phi::tools
