// occupancy ARCHITECTURE REGISTERS THREADS SHARED: blocks of such a kernel that one multiprocessor
// of sm_80, sm_90 or sm_100 holds at a time, by NVIDIA's calculator in the toolkit's header.
#include <cuda_occupancy.h>

#include <cstdio>
#include <cstdlib>

namespace {

// CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
cudaOccDeviceProp Device(int architecture) {
  cudaOccDeviceProp device;
  device.computeMajor = architecture / 10;
  device.computeMinor = architecture % 10;
  device.maxThreadsPerBlock = 1024;
  device.maxThreadsPerMultiprocessor = 2048;
  device.regsPerBlock = 65536;
  device.regsPerMultiprocessor = 65536;
  device.warpSize = 32;
  device.sharedMemPerBlock = size_t{48} << 10;
  device.sharedMemPerMultiprocessor = size_t{architecture == 80 ? 164U : 228U} << 10;
  device.numSms = 1;
  device.sharedMemPerBlockOptin = size_t{architecture == 80 ? 163U : 227U} << 10;
  device.reservedSharedMemPerBlock = 1024;
  return device;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return 64;
  const cudaOccDeviceProp device = Device(std::atoi(argv[1]));
  cudaOccFuncAttributes kernel;
  kernel.maxThreadsPerBlock = 1024;
  kernel.numRegs = std::atoi(argv[2]);
  kernel.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
  kernel.maxDynamicSharedSizeBytes = device.sharedMemPerBlockOptin;
  kernel.numBlockBarriers = 1;
  const cudaOccDeviceState state;
  cudaOccResult result;
  if (cudaOccMaxActiveBlocksPerMultiprocessor(&result,
                                              &device,
                                              &kernel,
                                              &state,
                                              std::atoi(argv[3]),
                                              static_cast<size_t>(std::atoll(argv[4]))) !=
      CUDA_OCC_SUCCESS) {
    return 65;
  }
  std::printf("%d\n", result.activeBlocksPerMultiprocessor);
  return 0;
}
