#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/cpu/isa.h"
#include "kernels/dtype.h"

namespace phi::kernels {

struct CpuOptions {
  DType dtype = DType::kBFloat16;  // float32 or bfloat16
  int threads = 1;                 // the caller of the backend included
  Isa isa = BestIsa();
};

// The backend of kernels/backend.h on this machine's cores. Operations run at once, on the caller
// and threads - 1 threads of the backend's own; FinishStep() never fails.
//
// Beyond Allocate() and PackMatrix() it takes scratch memory for kMaxBlockRows packed operands of
// the widest packed matrix.
//
// INVALID_ARGUMENT for a dtype or thread count that it cannot have, FAILED_PRECONDITION for an
// instruction set that the machine lacks, RESOURCE_EXHAUSTED when threads or memory cannot be had.
absl::StatusOr<std::unique_ptr<Backend>> MakeCpuBackend(const CpuOptions& options);

}  // namespace phi::kernels
