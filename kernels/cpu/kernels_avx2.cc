#include "kernels/cpu/make_kernel_table.h"
#include "kernels/cpu/simd_avx2.h"

namespace phi::kernels {

constinit const KernelTable kAvx2Float32Kernels = MakeKernelTable<Float32Family<Avx2>>();
constinit const KernelTable kAvx2BFloat16Kernels = MakeKernelTable<WidenedBFloat16Family<Avx2>>();

}  // namespace phi::kernels
