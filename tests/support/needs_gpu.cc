// Linked into the suites that run on GPUs: where there is none they are skipped, all at once and in
// one line.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

namespace phi {
namespace {

class NeedsGpu : public testing::Environment {
 public:
  void SetUp() override {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error == cudaSuccess && count > 0) return;
    GTEST_SKIP() << "no GPU: " << cudaGetErrorString(error);
  }
};

testing::Environment* const kNeedsGpu = testing::AddGlobalTestEnvironment(new NeedsGpu);

}  // namespace
}  // namespace phi
