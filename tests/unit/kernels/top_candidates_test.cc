#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/unit/kernels/kernel_fixture.h"

namespace phi::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

class TopCandidatesTest : public KernelTest {
 protected:
  std::vector<Candidate> Take(const LogitsRows& rows, int count) {
    VisibleVector<Candidate> out(static_cast<size_t>(rows.num_rows * count));
    backend_->TopCandidates(rows, count, out.data());
    // Waits for what was enqueued before.
    std::byte last{};
    const absl::Status status = backend_->CopyToHost(&last, memory_->data(), 1);
    EXPECT_TRUE(status.ok()) << status;
    return {out.begin(), out.end()};
  }

  const std::unique_ptr<Backend> backend_ = MakeBackend();
  const std::unique_ptr<DeviceBuffer> memory_ = *backend_->Allocate(1);
};

// Coarse values, so that ties are frequent, both zeros, and both ends of the range.
Matrix CoarseLogits(int64_t rows, int64_t cols, uint32_t seed) {
  std::mt19937 random(seed);
  Matrix logits(rows, cols);
  for (float& logit : logits.values) {
    logit = static_cast<float>(static_cast<int>(random() % 201) - 100) / 8.0F;
    if (logit == 0.0F && random() % 2 == 0) logit = -0.0F;
    if (random() % 97 == 0) logit = std::numeric_limits<float>::lowest();
    if (random() % 1999 == 0) logit = std::numeric_limits<float>::max();
  }
  return logits;
}

// A sort of all that may be candidates.
std::vector<Candidate> SortedRow(const Matrix& logits,
                                 int64_t row,
                                 const LogitsRows& rows,
                                 int count) {
  std::vector<Candidate> all;
  for (int64_t col = 0; col < rows.num_real; ++col) {
    all.push_back({logits(row, col), static_cast<int32_t>(rows.first_id + col)});
  }
  std::sort(all.begin(), all.end(), ComesBefore);
  all.resize(static_cast<size_t>(count), {-kInfinity, -1});
  return all;
}

void ExpectEqual(const Candidate& a, const Candidate& b, int64_t place) {
  EXPECT_EQ(a.token_id, b.token_id) << place;
  EXPECT_EQ(a.logit, b.logit) << place;
}

// One slice and several, the last one short; fewer real columns than candidates, and none.
TEST_P(TopCandidatesTest, AreThoseOfASort) {
  struct Shape {
    int64_t rows, cols, num_real, first_id;
    int count;
  };
  for (const Shape& shape : {Shape{1, 1, 1, 0, 1},
                             Shape{3, 40, 33, 7, 1},
                             Shape{3, 40, 33, 7, 64},
                             Shape{2, 2048, 2048, 2048, 5},
                             Shape{2, 2049, 2049, 0, 2},
                             Shape{2, 9001, 8000, 51200, 64},
                             Shape{2, 9001, 0, 0, 3},
                             Shape{2, 0, 0, 12, 2}}) {
    SCOPED_TRACE(testing::Message() << shape.rows << " x " << shape.cols << ", " << shape.count);
    const Matrix logits = CoarseLogits(shape.rows, std::max<int64_t>(shape.cols, 1), 1);
    const LogitsRows rows = {.logits = logits.values.data(),
                             .num_rows = shape.rows,
                             .num_cols = shape.cols,
                             .num_real = shape.num_real,
                             .first_id = shape.first_id};
    const std::vector<Candidate> taken = Take(rows, shape.count);
    for (int64_t row = 0; row < shape.rows; ++row) {
      const std::vector<Candidate> expected = SortedRow(logits, row, rows, shape.count);
      for (int i = 0; i < shape.count; ++i) {
        ExpectEqual(
            taken[static_cast<size_t>(row * shape.count + i)], expected[static_cast<size_t>(i)], i);
      }
    }
  }
}

// More columns than slices of the least size, so that slices grow; many rows.
TEST_P(TopCandidatesTest, WideAndManyRows) {
  for (const auto& [num_rows, num_cols] : {std::pair<int64_t, int64_t>{1, 70001}, {600, 130}}) {
    const Matrix logits = CoarseLogits(num_rows, num_cols, 2);
    const LogitsRows rows = {.logits = logits.values.data(),
                             .num_rows = num_rows,
                             .num_cols = num_cols,
                             .num_real = num_cols - 3};
    const std::vector<Candidate> taken = Take(rows, 4);
    for (int64_t row = 0; row < num_rows; ++row) {
      const std::vector<Candidate> expected = SortedRow(logits, row, rows, 4);
      for (size_t i = 0; i < 4; ++i) {
        ExpectEqual(taken[static_cast<size_t>(row) * 4 + i], expected[i], row);
      }
    }
  }
}

// What is not finite shows, wherever it is; the rows beside it are as they would be alone.
TEST_P(TopCandidatesTest, WhatIsNotFiniteShows) {
  for (const float bad : {NAN, -NAN, kInfinity, -kInfinity}) {
    for (const int64_t col : {0, 1500, 2999, 3000, 4099}) {
      Matrix logits = CoarseLogits(3, 4100, 3);
      logits(1, col) = bad;
      const LogitsRows rows = {
          .logits = logits.values.data(), .num_rows = 3, .num_cols = 4100, .num_real = 3000};
      const std::vector<Candidate> taken = Take(rows, 2);
      EXPECT_TRUE(std::isnan(taken[2].logit)) << bad << " at " << col;
      for (const int64_t row : {0, 2}) {
        const std::vector<Candidate> expected = SortedRow(logits, row, rows, 2);
        for (size_t i = 0; i < 2; ++i) {
          ExpectEqual(taken[static_cast<size_t>(row) * 2 + i], expected[i], row);
        }
      }
    }
  }
}

// Logits are float32 whatever the dtype is.
std::vector<BackendCase> FloatCases() {
  std::vector<BackendCase> cases = MachineCases();
  std::erase_if(cases, [](const BackendCase& each) { return each.dtype != DType::kFloat32; });
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Machine, TopCandidatesTest, testing::ValuesIn(FloatCases()), CaseName);

}  // namespace
}  // namespace phi::kernels
