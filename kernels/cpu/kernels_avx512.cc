#include "kernels/cpu/make_kernel_table.h"
#include "kernels/cpu/simd_avx512.h"

namespace phi::kernels {

constinit const KernelTable kAvx512Float32Kernels = MakeKernelTable<Float32Family<Avx512>>();
constinit const KernelTable kAvx512BFloat16Kernels =
    MakeKernelTable<WidenedBFloat16Family<Avx512>>();

}  // namespace phi::kernels
