#include "kernels/cpu/isa.h"

#include <array>
#include <string>

#include "absl/status/status.h"
#include "kernels/base/status_macros.h"

namespace phi::kernels {
namespace {

constexpr std::array kAllIsas = {Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16};

// __builtin_cpu_supports also asks the operating system whether it saves the wide registers.
bool HasIsa(Isa isa) {
  switch (isa) {
    case Isa::kAvx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case Isa::kAvx512:
      return HasIsa(Isa::kAvx2) && __builtin_cpu_supports("avx512f") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512dq");
    case Isa::kAvx512Bf16:
      return HasIsa(Isa::kAvx512) && __builtin_cpu_supports("avx512bf16");
  }
  return false;
}

// Each set contains the weaker ones, so the machine's are the first `count`.
size_t CountMachineIsas() {
  size_t count = 0;
  while (count < kAllIsas.size() && HasIsa(kAllIsas[count])) ++count;
  return count;
}

}  // namespace

std::string_view IsaName(Isa isa) {
  switch (isa) {
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx512Bf16:
      return "avx512_bf16";
  }
  return "?";
}

std::span<const Isa> MachineIsas() {
  static const size_t count = CountMachineIsas();
  return std::span(kAllIsas).first(count);
}

Isa BestIsa() { return MachineIsas().empty() ? Isa::kAvx2 : MachineIsas().back(); }

absl::Status CheckIsa(Isa isa) {
  if (HasIsa(isa)) return absl::OkStatus();
  if (MachineIsas().empty()) {
    return absl::FailedPreconditionError(
        "this CPU has no AVX2 and FMA, the least that the CPU kernels need");
  }
  return absl::FailedPreconditionError("this CPU has no " + std::string(IsaName(isa)) +
                                       "; its best is " + std::string(IsaName(BestIsa())));
}

absl::StatusOr<Isa> ParseIsa(std::string_view name) {
  Isa isa = BestIsa();
  if (name != "auto") {
    const Isa* found = nullptr;
    for (const Isa& candidate : kAllIsas) {
      if (IsaName(candidate) == name) found = &candidate;
    }
    if (found == nullptr) {
      return absl::InvalidArgumentError("unknown instruction set '" + std::string(name) +
                                        "'; known: auto, avx2, avx512, avx512_bf16");
    }
    isa = *found;
  }
  PHI_RETURN_IF_ERROR(CheckIsa(isa));
  return isa;
}

}  // namespace phi::kernels
