#pragma once

#include <cstdint>
#include <memory>

#include "kernels/cpu/isa.h"
#include "kernels/dtype.h"

namespace phi::bench {

// y = x · W^T by oneDNN's matmul on constant random values, in float32 or bfloat16 with a float32
// result; the weights lie in the layout that oneDNN asks for, repacked beforehand.
class DnnlMatmul {
 public:
  // Null where oneDNN has no such product on the instruction set it is confined to.
  static std::unique_ptr<DnnlMatmul> Create(kernels::DType dtype,
                                            int64_t rows,
                                            int64_t cols,
                                            int64_t outputs);
  ~DnnlMatmul();

  void Run();
  // oneDNN's name of the implementation it chose.
  const char* Implementation() const;

 private:
  struct State;
  explicit DnnlMatmul(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// The threads that oneDNN runs on and the strongest instruction set it may use, so that it is
// compared with ours on equal terms. Call before the first DnnlMatmul.
void ConfigureDnnl(int threads, kernels::Isa isa);

}  // namespace phi::bench
