#pragma once

#include <cstdint>
#include <memory>

#include "kernels/dtype.h"

namespace phi::bench {

// y = x · W^T by oneDNN's matmul on constant random values, in float32 or bfloat16 with a float32
// result; the weights lie in the layout that oneDNN asks for, repacked beforehand.
class DnnlMatmul {
 public:
  DnnlMatmul(kernels::DType dtype, int64_t rows, int64_t cols, int64_t outputs);
  ~DnnlMatmul();

  void Run();
  // oneDNN's name of the implementation it chose.
  const char* Implementation() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Threads that oneDNN runs on.
void SetDnnlThreads(int threads);

}  // namespace phi::bench
