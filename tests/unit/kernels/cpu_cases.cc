#include <new>

#include "kernels/base/check.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/unit/kernels/backend_cases.h"

namespace phi::kernels {

// Each instruction set of this machine in float32 and bfloat16.
std::vector<BackendCase> MachineCases() {
  std::vector<BackendCase> cases;
  for (const Isa isa : MachineIsas()) {
    for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
      cases.push_back({.name = std::string(IsaName(isa)), .dtype = dtype, .make = [=](int threads) {
                         auto backend =
                             MakeCpuBackend({.dtype = dtype, .threads = threads, .isa = isa});
                         PHI_CHECK(backend.ok(), "%s", backend.status().ToString().c_str());
                         return *std::move(backend);
                       }});
    }
  }
  return cases;
}

void* AllocateVisible(size_t bytes) { return ::operator new(bytes); }
void FreeVisible(void* memory) { ::operator delete(memory); }

}  // namespace phi::kernels
