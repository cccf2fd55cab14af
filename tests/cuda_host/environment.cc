// The harness of a program without a test's main: its environment says what tests say elsewhere.
//
//   PHI_CUDA_HOST_MEMORY=BYTES            of one device
//   PHI_CUDA_HOST_COMPUTE=MAJOR           of every device
//   PHI_CUDA_HOST_FAIL=NAME:NTH:ERROR     FailCall(NAME, NTH, ERROR)
#include <cstdlib>
#include <string>

#include "tests/cuda_host/harness.h"

namespace phi::cuda_host {
namespace {

[[maybe_unused]] const bool configured = [] {
  Settings settings;
  if (const char* memory = std::getenv("PHI_CUDA_HOST_MEMORY"); memory != nullptr)
    settings.memory_bytes = std::stoull(memory);
  if (const char* compute = std::getenv("PHI_CUDA_HOST_COMPUTE"); compute != nullptr)
    settings.compute_major = std::stoi(compute);
  Configure(settings);
  if (const char* fail = std::getenv("PHI_CUDA_HOST_FAIL"); fail != nullptr) {
    const std::string text = fail;
    const size_t first = text.find(':');
    const size_t second = text.find(':', first + 1);
    FailCall(text.substr(0, first),
             std::stoi(text.substr(first + 1, second - first - 1)),
             std::stoi(text.substr(second + 1)));
  }
  return true;
}();

}  // namespace
}  // namespace phi::cuda_host
