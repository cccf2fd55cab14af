#include <cublasLt.h>
#include <gmock/gmock.h>

#include <random>
#include <set>
#include <utility>

#include "tests/unit/cuda_host/device_fixture.h"

namespace phi::cuda_host {
namespace {

// y [m, n] = x [m, k] · w [n, k]^T, all row-major: column-major, y^T [n, m] = w^T^T · x^T.
class Product {
 public:
  Product(int64_t m, int64_t n, int64_t k) {
    const cublasOperation_t transpose = CUBLAS_OP_T;
    const auto rows = [](int64_t value) { return static_cast<uint64_t>(value); };
    EXPECT_EQ(cublasLtCreate(&handle_), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(cublasLtMatmulDescCreate(&desc_, CUBLAS_COMPUTE_32F, CUDA_R_32F),
              CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(cublasLtMatmulDescSetAttribute(
                  desc_, CUBLASLT_MATMUL_DESC_TRANSA, &transpose, sizeof(transpose)),
              CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(cublasLtMatrixLayoutCreate(&w_, CUDA_R_32F, rows(k), rows(n), k),
              CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(cublasLtMatrixLayoutCreate(&x_, CUDA_R_32F, rows(k), rows(m), k),
              CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(cublasLtMatrixLayoutCreate(&y_, CUDA_R_32F, rows(n), rows(m), n),
              CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(cublasLtMatmulPreferenceCreate(&preference_), CUBLAS_STATUS_SUCCESS);
  }
  ~Product() {
    cublasLtMatmulPreferenceDestroy(preference_);
    for (const cublasLtMatrixLayout_t layout : {w_, x_, y_}) cublasLtMatrixLayoutDestroy(layout);
    cublasLtMatmulDescDestroy(desc_);
    cublasLtDestroy(handle_);
  }
  Product(const Product&) = delete;
  Product& operator=(const Product&) = delete;

  cublasStatus_t Plan() {
    int found = 0;
    return cublasLtMatmulAlgoGetHeuristic(
        handle_, desc_, w_, x_, y_, y_, preference_, 1, &plan_, &found);
  }
  cublasStatus_t Run(const float* w, const float* x, float* y, cudaStream_t stream) {
    const float one = 1;
    const float zero = 0;
    return cublasLtMatmul(
        handle_, desc_, &one, w, w_, x, x_, &zero, y, y_, y, y_, &plan_.algo, nullptr, 0, stream);
  }
  void UsePlanOf(const Product& other) { plan_ = other.plan_; }

 private:
  cublasLtHandle_t handle_ = nullptr;
  cublasLtMatmulDesc_t desc_ = nullptr;
  cublasLtMatrixLayout_t w_ = nullptr;
  cublasLtMatrixLayout_t x_ = nullptr;
  cublasLtMatrixLayout_t y_ = nullptr;
  cublasLtMatmulPreference_t preference_ = nullptr;
  cublasLtMatmulHeuristicResult_t plan_ = {};
};

class CublasLtTest : public DeviceTest {};

TEST_F(CublasLtTest, MultipliesRowMajorMatrices) {
  constexpr int64_t kM = 3;
  constexpr int64_t kN = 5;
  constexpr int64_t kK = 7;
  const DeviceArray<float> x(Numbers(kM * kK));
  const DeviceArray<float> w(Numbers(kN * kK));
  const DeviceArray<float> y(kM * kN);
  const Stream stream;
  Product product(kM, kN, kK);
  ASSERT_EQ(product.Plan(), CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(product.Run(w.data(), x.data(), y.data(), stream.get()), CUBLAS_STATUS_SUCCESS);
  stream.Wait();
  std::vector<float> wanted;
  for (int64_t row = 0; row < kM; ++row) {
    for (int64_t out = 0; out < kN; ++out) {
      float sum = 0;
      for (int64_t k = 0; k < kK; ++k) {
        sum += static_cast<float>((row * kK + k + 1) * (out * kK + k + 1));
      }
      wanted.push_back(sum);
    }
  }
  EXPECT_THAT(y.Values(), testing::ElementsAreArray(wanted));
}

// What is promised nowhere must not be leaned on: a row's bits change with the number of rows, and
// for the few inputs of a small model too.
TEST_F(CublasLtTest, OrderOfSumsDependsOnTheNumberOfRows) {
  constexpr int64_t kN = 16;
  constexpr int64_t kMostRows = 20;
  for (const int64_t k : {32, 300}) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<size_t>(kMostRows * k));
    for (float& value : values) value = normal(random);
    const DeviceArray<float> w(values);
    const DeviceArray<float> x(values);
    std::set<std::vector<float>> first_rows;
    for (int64_t m = 1; m <= kMostRows; ++m) {
      const DeviceArray<float> y(static_cast<size_t>(m * kN));
      const Stream stream;
      Product product(m, kN, k);
      ASSERT_EQ(product.Plan(), CUBLAS_STATUS_SUCCESS);
      ASSERT_EQ(product.Run(w.data(), x.data(), y.data(), stream.get()), CUBLAS_STATUS_SUCCESS);
      stream.Wait();
      std::vector<float> row = y.Values();
      row.resize(kN);
      first_rows.insert(std::move(row));
    }
    EXPECT_EQ(first_rows.size(), static_cast<size_t>(kMostRows)) << k << " inputs";
  }
}

TEST_F(CublasLtTest, RefusesAPlanOfAnotherShape) {
  const DeviceArray<float> data(Numbers(1024));
  const DeviceArray<float> y(1024);
  const Stream stream;
  Product two_rows(2, 4, 8);
  Product three_rows(3, 4, 8);
  ASSERT_EQ(two_rows.Plan(), CUBLAS_STATUS_SUCCESS);
  three_rows.UsePlanOf(two_rows);
  EXPECT_EQ(three_rows.Run(data.data(), data.data(), y.data(), stream.get()),
            CUBLAS_STATUS_INVALID_VALUE);
}

TEST_F(CublasLtTest, ReportsOperandsThatAreNotTheDevices) {
  const std::vector<float> host(64);
  const DeviceArray<float> device(64);
  const DeviceArray<float> y(64);
  const Stream stream;
  Product product(2, 4, 8);
  ASSERT_EQ(product.Plan(), CUBLAS_STATUS_SUCCESS);
  EXPECT_DEATH(product.Run(host.data(), device.data(), y.data(), stream.get()),
               "cublasLtMatmul: A, .* not in one allocation");
  EXPECT_DEATH(product.Run(device.data(), device.data() + 56, y.data(), stream.get()),
               "cublasLtMatmul: B, .* not in one allocation");
  EXPECT_DEATH(product.Run(device.data() + 1, device.data(), y.data(), stream.get()),
               "not 16-byte aligned");
  EXPECT_DEATH(product.Run(device.data(), y.data(), y.data(), stream.get()), "D overlaps");
}

}  // namespace
}  // namespace phi::cuda_host
