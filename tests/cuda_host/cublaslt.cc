// cuBLASLt: column-major products with float32 sums. The descriptors are the library's own opaque
// structs, which hold ours. As with the real one, the order of a sum may change with the shape:
// here it does, with the number of columns of D (the rows of a batch).
#include <cublasLt.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "tests/cuda_host/grid.h"
#include "tests/cuda_host/matmul.h"
#include "tests/cuda_host/streams.h"

namespace phi::cuda_host {
namespace {

struct MatmulDesc {
  cublasComputeType_t compute;
  cudaDataType_t scale;
  cublasOperation_t transpose_a;
  cublasOperation_t transpose_b;
};
struct Layout {
  cudaDataType_t type;
  uint64_t rows;
  uint64_t cols;
  int64_t stride;
};
struct Preference {
  size_t max_workspace;
};
static_assert(sizeof(MatmulDesc) <= sizeof(cublasLtMatmulDescOpaque_t));
static_assert(sizeof(Layout) <= sizeof(cublasLtMatrixLayoutOpaque_t));
static_assert(sizeof(Preference) <= sizeof(cublasLtMatmulPreferenceOpaque_t));

template <typename T>
T Unpack(const void* opaque) {
  T value;
  std::memcpy(&value, opaque, sizeof(T));
  return value;
}

template <typename T, typename Opaque>
cublasStatus_t Create(Opaque** created, const T& value) {
  *created = new Opaque{};
  std::memcpy(*created, &value, sizeof(T));
  return CUBLAS_STATUS_SUCCESS;
}

MatrixView View(const void* data, cublasLtMatrixLayout_t layout, cublasOperation_t operation) {
  const auto unpacked = Unpack<Layout>(layout);
  return {.data = static_cast<const std::byte*>(data),
          .type = unpacked.type,
          .rows = static_cast<int64_t>(unpacked.rows),
          .cols = static_cast<int64_t>(unpacked.cols),
          .stride = unpacked.stride,
          .transposed = operation != CUBLAS_OP_N};
}

class MatmulOperation : public Operation {
 public:
  explicit MatmulOperation(const Matmul& matmul) : matmul_(matmul) {}
  bool Run(Device& /*device*/) override {
    RunMatmul(matmul_);
    return true;
  }
  std::unique_ptr<Operation> Clone() const override {
    return std::make_unique<MatmulOperation>(matmul_);
  }
  void Retire(Device& device) override {
    KernelCount& count = device.counts.kernels["cublasLt"];
    ++count.launches;
    count.bytes_read += matmul_.a.Bytes() + matmul_.b.Bytes() + matmul_.d.Bytes();
  }

 private:
  Matmul matmul_;
};

// What the shapes, types and strides of a product have to be.
cublasStatus_t CheckMatmul(const Matmul& matmul, const MatmulDesc& desc) {
  if (desc.compute != CUBLAS_COMPUTE_32F || desc.scale != CUDA_R_32F) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  if (matmul.a.type != matmul.b.type || matmul.d.type != CUDA_R_32F) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  if (matmul.a.ViewRows() != matmul.d.rows || matmul.b.ViewCols() != matmul.d.cols ||
      matmul.a.ViewCols() != matmul.b.ViewRows()) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  for (const MatrixView* view : {&matmul.a, &matmul.b, &matmul.d}) {
    if (view->rows <= 0 || view->cols <= 0 || view->stride < view->rows) {
      return CUBLAS_STATUS_INVALID_VALUE;
    }
  }
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace
}  // namespace phi::cuda_host

using phi::cuda_host::InjectedError;
using phi::cuda_host::Layout;
using phi::cuda_host::MatmulDesc;
using phi::cuda_host::Preference;
using phi::cuda_host::Unpack;

struct cublasLtContext {};

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  if (const int error = InjectedError("cublasLtCreate"); error != 0) {
    return static_cast<cublasStatus_t>(error);
  }
  *handle = new cublasLtContext;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

size_t cublasLtGetVersion() { return CUBLAS_VERSION; }

const char* cublasLtGetStatusString(cublasStatus_t status) {
  return status == CUBLAS_STATUS_SUCCESS ? "success" : "cuBLASLt error";
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* desc,
                                        cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  return phi::cuda_host::Create(desc,
                                MatmulDesc{.compute = compute,
                                           .scale = scale,
                                           .transpose_a = CUBLAS_OP_N,
                                           .transpose_b = CUBLAS_OP_N});
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) {
  delete desc;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value,
                                              size_t bytes) {
  auto unpacked = Unpack<MatmulDesc>(desc);
  if (bytes != sizeof(cublasOperation_t)) return CUBLAS_STATUS_INVALID_VALUE;
  if (attribute == CUBLASLT_MATMUL_DESC_TRANSA) {
    std::memcpy(&unpacked.transpose_a, value, bytes);
  } else if (attribute == CUBLASLT_MATMUL_DESC_TRANSB) {
    std::memcpy(&unpacked.transpose_b, value, bytes);
  } else {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  std::memcpy(desc, &unpacked, sizeof(unpacked));
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout,
                                          cudaDataType type,
                                          uint64_t rows,
                                          uint64_t cols,
                                          int64_t stride) {
  return phi::cuda_host::Create(layout,
                                Layout{.type = type, .rows = rows, .cols = cols, .stride = stride});
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  return phi::cuda_host::Create(preference, Preference{.max_workspace = 0});
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value,
                                                    size_t bytes) {
  if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) {
    if (bytes != sizeof(size_t)) return CUBLAS_STATUS_INVALID_VALUE;
    std::memcpy(preference, value, bytes);
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t /*handle*/,
                                              cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t /*c*/,
                                              cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference,
                                              int /*requested*/,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int* returned) {
  *returned = 0;
  if (const int error = InjectedError("cublasLtMatmulAlgoGetHeuristic"); error != 0) {
    return static_cast<cublasStatus_t>(error);
  }
  const auto unpacked = Unpack<MatmulDesc>(desc);
  const phi::cuda_host::Matmul matmul = {
      .a = phi::cuda_host::View(nullptr, a, unpacked.transpose_a),
      .b = phi::cuda_host::View(nullptr, b, unpacked.transpose_b),
      .d = phi::cuda_host::View(nullptr, d, CUBLAS_OP_N)};
  const cublasStatus_t status = phi::cuda_host::CheckMatmul(matmul, unpacked);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  results[0] = {};
  results[0].algo.data[0] = phi::cuda_host::AlgorithmOf(matmul);
  // Some plans take all the workspace there is.
  results[0].workspaceSize = std::min<size_t>(Unpack<Preference>(preference).max_workspace,
                                              matmul.d.cols % 2 == 0 ? size_t{1} << 20 : 0);
  results[0].state = CUBLAS_STATUS_SUCCESS;
  *returned = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t /*handle*/,
                              cublasLtMatmulDesc_t desc,
                              const void* alpha,
                              const void* a,
                              cublasLtMatrixLayout_t a_layout,
                              const void* b,
                              cublasLtMatrixLayout_t b_layout,
                              const void* beta,
                              const void* c,
                              cublasLtMatrixLayout_t /*c_layout*/,
                              void* d,
                              cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algo,
                              void* workspace,
                              size_t workspace_bytes,
                              cudaStream_t stream) {
  if (const int error = InjectedError("cublasLtMatmul"); error != 0) {
    return static_cast<cublasStatus_t>(error);
  }
  const auto unpacked = Unpack<MatmulDesc>(desc);
  phi::cuda_host::Matmul matmul = {.a = phi::cuda_host::View(a, a_layout, unpacked.transpose_a),
                                   .b = phi::cuda_host::View(b, b_layout, unpacked.transpose_b),
                                   .d = phi::cuda_host::View(d, d_layout, CUBLAS_OP_N),
                                   .alpha = *static_cast<const float*>(alpha),
                                   .beta = *static_cast<const float*>(beta),
                                   .output = static_cast<float*>(d)};
  const cublasStatus_t status = phi::cuda_host::CheckMatmul(matmul, unpacked);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  // C = D in place is all that we have.
  if (matmul.beta != 0 && c != d) return CUBLAS_STATUS_NOT_SUPPORTED;
  // A plan is for its shape, and a null one is chosen anew.
  const uint64_t fitting = phi::cuda_host::AlgorithmOf(matmul);
  if (algo != nullptr && algo->data[0] != fitting) return CUBLAS_STATUS_INVALID_VALUE;
  phi::cuda_host::Device& device = phi::cuda_host::CurrentDevice();
  const std::lock_guard lock(device.mutex);
  if (workspace_bytes > 0 && !device.memory.ContainsDevice(workspace, workspace_bytes)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  phi::cuda_host::CheckOperands(matmul, device);
  const cudaError_t error =
      Enqueue(stream, std::make_unique<phi::cuda_host::MatmulOperation>(matmul));
  return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}
