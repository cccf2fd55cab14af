#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "absl/status/statusor.h"

namespace phi::kernels {

// The instruction sets that the CPU kernels are compiled for, weakest first. One process uses one
// of them from start to end: results are bit-identical within a set and agree within the tolerance
// across sets.
enum class Isa : uint8_t {
  kAvx2,        // AVX2 and FMA
  kAvx512,      // AVX-512 F, BW, VL, DQ
  kAvx512Bf16,  // kAvx512 and AVX512_BF16
};

// "avx2", "avx512", "avx512_bf16": the words of --isa.
std::string_view IsaName(Isa isa);

// What this machine has, weakest first; empty on a CPU without AVX2.
std::span<const Isa> MachineIsas();

// The strongest of MachineIsas(); kAvx2 where there is none, which MakeCpuBackend then refuses.
Isa BestIsa();

// OK where this machine has `isa`, else FAILED_PRECONDITION that says what is missing.
absl::Status CheckIsa(Isa isa);

// `name` is a word of IsaName() or "auto". INVALID_ARGUMENT for another word, FAILED_PRECONDITION
// as CheckIsa().
absl::StatusOr<Isa> ParseIsa(std::string_view name);

}  // namespace phi::kernels
