#include "tools/bench/dnnl_matmul.h"

#include <omp.h>

#include <dnnl.hpp>
#include <random>
#include <utility>
#include <vector>

#include "kernels/base/check.h"

namespace phi::bench {
namespace {

using Format = dnnl::memory::format_tag;
using Type = dnnl::memory::data_type;

Type TypeOf(kernels::DType dtype) {
  return dtype == kernels::DType::kFloat32 ? Type::f32 : Type::bf16;
}

}  // namespace

struct DnnlMatmul::State {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  dnnl::matmul::primitive_desc description;
  dnnl::matmul product;
  dnnl::memory x;
  dnnl::memory weights;
  dnnl::memory y;

  // Random values in the layout of `wanted`.
  dnnl::memory Random(const dnnl::memory::desc& wanted, dnnl::memory::dims dims, Format format) {
    const dnnl::memory::desc plain_desc(dims, Type::f32, format);
    std::vector<float> values(static_cast<size_t>(dims[0] * dims[1]));
    std::minstd_rand random(1);
    for (float& value : values) value = static_cast<float>(random() % 2001) / 1000.0F - 1.0F;
    dnnl::memory plain(plain_desc, engine, values.data());
    dnnl::memory result(wanted, engine);
    dnnl::reorder(plain, result).execute(stream, plain, result);
    stream.wait();
    return result;
  }
};

DnnlMatmul::DnnlMatmul(std::unique_ptr<State> state) : state_(std::move(state)) {}

std::unique_ptr<DnnlMatmul> DnnlMatmul::Create(kernels::DType dtype,
                                               int64_t rows,
                                               int64_t cols,
                                               int64_t outputs) {
  auto state = std::make_unique<State>();
  const dnnl::memory::desc x_desc({rows, cols}, TypeOf(dtype), Format::ab);
  const dnnl::memory::desc any_weights({cols, outputs}, TypeOf(dtype), Format::any);
  const dnnl::memory::desc y_desc({rows, outputs}, Type::f32, Format::ab);
  try {
    state->description = dnnl::matmul::primitive_desc(
        dnnl::matmul::desc(x_desc, any_weights, y_desc), state->engine);
  } catch (const dnnl::error&) {
    return nullptr;
  }
  state->product = dnnl::matmul(state->description);
  state->x = state->Random(x_desc, {rows, cols}, Format::ab);
  state->weights = state->Random(state->description.weights_desc(), {cols, outputs}, Format::ba);
  state->y = dnnl::memory(y_desc, state->engine);
  return std::unique_ptr<DnnlMatmul>(new DnnlMatmul(std::move(state)));
}

DnnlMatmul::~DnnlMatmul() = default;

void DnnlMatmul::Run() {
  state_->product.execute(
      state_->stream,
      {{DNNL_ARG_SRC, state_->x}, {DNNL_ARG_WEIGHTS, state_->weights}, {DNNL_ARG_DST, state_->y}});
  state_->stream.wait();
}

const char* DnnlMatmul::Implementation() const { return state_->description.impl_info_str(); }

void ConfigureDnnl(int threads, kernels::Isa isa) {
  omp_set_num_threads(threads);
  const dnnl::cpu_isa most = isa == kernels::Isa::kAvx2     ? dnnl::cpu_isa::avx2
                             : isa == kernels::Isa::kAvx512 ? dnnl::cpu_isa::avx512_core_vnni
                                                            : dnnl::cpu_isa::avx512_core_bf16;
  PHI_CHECK(dnnl::set_max_cpu_isa(most) == dnnl::status::success, "oneDNN is in use already");
}

}  // namespace phi::bench
