#include "kernels/cuda/runtime/library_product.h"

#include <utility>

#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"

namespace phi::kernels::cuda {
namespace {

constexpr uint32_t kAlignment = 16;

cudaDataType_t LibraryType(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return CUDA_R_32F;
    case DType::kBFloat16:
      return CUDA_R_16BF;
    case DType::kFloat16:
      return CUDA_R_16F;
  }
  PHI_CHECK(false, "dtype %d", static_cast<int>(dtype));
}

absl::Status MakeLayout(
    cudaDataType_t type, int64_t rows, int64_t cols, int64_t leading, LtLayout* layout) {
  cublasLtMatrixLayout_t made = nullptr;
  PHI_RETURN_IF_ERROR(
      LtStatus(cublasLtMatrixLayoutCreate(
                   &made, type, static_cast<uint64_t>(rows), static_cast<uint64_t>(cols), leading),
               "cublasLtMatrixLayoutCreate"));
  layout->reset(made);
  return absl::OkStatus();
}

absl::Status MakeOperation(LtMatmulDesc* operation) {
  cublasLtMatmulDesc_t made = nullptr;
  // CUBLAS_COMPUTE_32F, not its TF32 sister: float32 is the reference.
  PHI_RETURN_IF_ERROR(LtStatus(cublasLtMatmulDescCreate(&made, CUBLAS_COMPUTE_32F, CUDA_R_32F),
                               "cublasLtMatmulDescCreate"));
  operation->reset(made);
  const cublasOperation_t transposed = CUBLAS_OP_T;
  return LtStatus(cublasLtMatmulDescSetAttribute(
                      made, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof(transposed)),
                  "CUBLASLT_MATMUL_DESC_TRANSA");
}

absl::Status MakePreference(LtPreference* preference) {
  cublasLtMatmulPreference_t made = nullptr;
  PHI_RETURN_IF_ERROR(
      LtStatus(cublasLtMatmulPreferenceCreate(&made), "cublasLtMatmulPreferenceCreate"));
  preference->reset(made);
  const size_t workspace = LibraryProduct::kWorkspaceBytes;
  PHI_RETURN_IF_ERROR(
      LtStatus(cublasLtMatmulPreferenceSetAttribute(
                   made, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof(workspace)),
               "CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES"));
  for (const cublasLtMatmulPreferenceAttributes_t attribute :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    PHI_RETURN_IF_ERROR(LtStatus(
        cublasLtMatmulPreferenceSetAttribute(made, attribute, &kAlignment, sizeof(kAlignment)),
        "CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT"));
  }
  return absl::OkStatus();
}

}  // namespace

LibraryProduct::LibraryProduct(DType dtype) : type_(LibraryType(dtype)) {}

absl::StatusOr<std::unique_ptr<LibraryProduct>> LibraryProduct::Create(DType dtype,
                                                                       cudaStream_t stream) {
  auto product = std::unique_ptr<LibraryProduct>(new LibraryProduct(dtype));
  cublasLtHandle_t handle = nullptr;
  PHI_RETURN_IF_ERROR(LtStatus(cublasLtCreate(&handle), "cublasLtCreate"));
  product->handle_.reset(handle);
  PHI_RETURN_IF_ERROR(MakeOperation(&product->operation_));
  PHI_RETURN_IF_ERROR(MakePreference(&product->preference_));
  PHI_ASSIGN_OR_RETURN(product->workspace_, DeviceMemory::Allocate(kWorkspaceBytes, stream));
  return product;
}

bool LibraryProduct::Takes(const InputRows& in, DType dtype) {
  return in.row_index == nullptr && reinterpret_cast<uintptr_t>(in.data) % kAlignment == 0 &&
         static_cast<uint64_t>(in.stride) * DTypeBytes(dtype) % kAlignment == 0;
}

// In the library's column-major words: out^T [outputs, rows] = W^T transposed · in^T, where a
// row-major matrix is the transpose with its row stride as leading dimension.
absl::Status LibraryProduct::MakePlan(const Shape& shape, Plan* plan) const {
  PHI_RETURN_IF_ERROR(
      MakeLayout(type_, shape.cols, shape.outputs, shape.padded_cols, &plan->weights));
  PHI_RETURN_IF_ERROR(MakeLayout(type_, shape.cols, shape.rows, shape.stride, &plan->in));
  PHI_RETURN_IF_ERROR(MakeLayout(CUDA_R_32F, shape.outputs, shape.rows, shape.outputs, &plan->out));
  cublasLtMatmulHeuristicResult_t result{};
  int count = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(handle_.get(),
                                                               operation_.get(),
                                                               plan->weights.get(),
                                                               plan->in.get(),
                                                               plan->out.get(),
                                                               plan->out.get(),
                                                               preference_.get(),
                                                               1,
                                                               &result,
                                                               &count);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED) return absl::OkStatus();
  PHI_RETURN_IF_ERROR(LtStatus(status, "cublasLtMatmulAlgoGetHeuristic"));
  if (count > 0) plan->algorithm = result.algo;
  return absl::OkStatus();
}

absl::StatusOr<const LibraryProduct::Plan*> LibraryProduct::PlanOf(const Shape& shape) {
  if (const auto found = plans_.find(shape); found != plans_.end()) return &found->second;
  if (plans_.size() >= kMaxPlans) plans_.clear();
  Plan plan;
  PHI_RETURN_IF_ERROR(MakePlan(shape, &plan));
  return &plans_.emplace(shape, std::move(plan)).first->second;
}

absl::Status LibraryProduct::Multiply(const InputRows& in,
                                      int64_t rows,
                                      const PackedWeights& weights,
                                      float* out,
                                      cudaStream_t stream) {
  PHI_ASSIGN_OR_RETURN(
      const Plan* plan,
      PlanOf({rows, weights.outputs, weights.cols, weights.padded_cols, in.stride}));
  if (!plan->algorithm.has_value()) return absl::UnimplementedError("no algorithm of cuBLASLt");
  const float one = 1.0F;
  const float zero = 0.0F;
  return LtStatus(cublasLtMatmul(handle_.get(),
                                 operation_.get(),
                                 &one,
                                 weights.data,
                                 plan->weights.get(),
                                 in.data,
                                 plan->in.get(),
                                 &zero,
                                 out,
                                 plan->out.get(),
                                 out,
                                 plan->out.get(),
                                 &*plan->algorithm,
                                 workspace_->data(),
                                 kWorkspaceBytes,
                                 stream),
                  "cublasLtMatmul");
}

}  // namespace phi::kernels::cuda
