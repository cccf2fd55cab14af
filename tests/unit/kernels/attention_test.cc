#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <random>

#include "kernels/base/convert.h"
#include "tests/unit/kernels/kernel_fixture.h"

namespace phi::kernels {
namespace {

constexpr int kMaxPositions = 128;

struct AttentionCase {
  AttentionShape shape;
  const char* name;
};

constexpr AttentionShape kShapes[] = {
    {.num_heads = 2, .num_key_value_heads = 2, .head_dim = 64, .rotary_dim = 32},
    {.num_heads = 6, .num_key_value_heads = 2, .head_dim = 20, .rotary_dim = 10},
    {.num_heads = 3, .num_key_value_heads = 1, .head_dim = 33, .rotary_dim = 0},
    {.num_heads = 1, .num_key_value_heads = 1, .head_dim = 1, .rotary_dim = 0},
    {.num_heads = 2, .num_key_value_heads = 2, .head_dim = 16, .rotary_dim = 16},
    {.num_heads = 1, .num_key_value_heads = 1, .head_dim = 80, .rotary_dim = 32},
};

Matrix RotaryTable(int rotary_dim) {
  Matrix table(kMaxPositions, rotary_dim);
  for (int position = 0; position < kMaxPositions; ++position) {
    for (int i = 0; i < rotary_dim / 2; ++i) {
      const double angle = position * std::pow(10000.0, -2.0 * i / rotary_dim);
      table(position, i) = static_cast<float>(std::cos(angle));
      table(position, rotary_dim / 2 + i) = static_cast<float>(std::sin(angle));
    }
  }
  return table;
}

// The tokens of one sequence that a step takes.
struct Piece {
  int sequence;
  int first_position;
  int count;
};

// Sequences of random queries, keys and values, and a paged cache for them whose blocks are
// shuffled and filled with NaN, as if a broken request had used them before: a slot that is read
// without having been written shows.
class AttentionFixture {
 public:
  AttentionFixture(Backend& backend, const AttentionShape& shape, std::vector<int> lengths)
      : backend_(backend), shape_(shape), rotary_(RotaryTable(shape.rotary_dim)) {
    int blocks = 0;
    for (const int length : lengths) {
      qkv_.push_back(RandomMatrix(
          length, shape.qkv_cols(), DType::kFloat32, static_cast<uint32_t>(100 + qkv_.size())));
      blocks += (length + kKvBlockTokens - 1) / kKvBlockTokens;
    }
    std::vector<int32_t> ids(static_cast<size_t>(blocks));
    for (int i = 0; i < blocks; ++i) ids[static_cast<size_t>(i)] = i;
    std::shuffle(ids.begin(), ids.end(), std::mt19937(7));
    for (const int length : lengths) {
      const int count = (length + kKvBlockTokens - 1) / kKvBlockTokens;
      block_tables_.emplace_back(ids.end() - count, ids.end());
      ids.resize(ids.size() - static_cast<size_t>(count));
    }
    half_bytes_ = static_cast<size_t>(blocks) * backend.KvBlockBytes(shape) / 2;
    cache_.assign(2 * half_bytes_, std::byte{0xff});
  }

  // One step of all pieces together. Returns for each piece the rows' attention outputs as stored.
  std::vector<Matrix> Step(const std::vector<Piece>& pieces) {
    std::vector<int32_t> token_ids, positions, block_ids;
    std::vector<SequenceRows> sequences;
    VisibleVector<float> qkv;
    for (const auto& [sequence, first, count] : pieces) {
      const auto& table = block_tables_[static_cast<size_t>(sequence)];
      sequences.push_back({.first_row = static_cast<int32_t>(positions.size()),
                           .num_rows = count,
                           .first_position = first,
                           .first_block = static_cast<int32_t>(block_ids.size())});
      block_ids.insert(block_ids.end(), table.begin(), table.end());
      for (int i = 0; i < count; ++i) positions.push_back(first + i);
      const auto& rows = qkv_[static_cast<size_t>(sequence)];
      const auto begin = rows.values.begin() + first * rows.cols;
      qkv.insert(qkv.end(), begin, begin + count * rows.cols);
    }
    token_ids.resize(positions.size());
    const auto rows = static_cast<int64_t>(positions.size());
    OperandBuffer out(backend_.dtype(), rows, shape_.query_cols());
    const KvLayer layer = {cache_.data(), cache_.data() + half_bytes_};
    backend_.BeginStep({token_ids, positions, sequences, block_ids, {}});
    backend_.RotaryAndCacheWrite(shape_, rotary_.values.data(), qkv.data(), layer);
    backend_.PagedAttention(shape_, qkv.data(), layer, out.operands());
    EXPECT_TRUE(backend_.FinishStep().ok());
    rotated_ = std::move(qkv);
    return Split(out.Values(), pieces);
  }

  const VisibleVector<float>& rotated() const { return rotated_; }
  const Matrix& qkv(int sequence) const { return qkv_[static_cast<size_t>(sequence)]; }
  const Matrix& rotary() const { return rotary_; }

 private:
  static std::vector<Matrix> Split(const Matrix& all, const std::vector<Piece>& pieces) {
    std::vector<Matrix> parts;
    int64_t row = 0;
    for (const Piece& piece : pieces) {
      Matrix& part = parts.emplace_back(piece.count, all.cols);
      std::copy_n(all.values.begin() + row * all.cols, piece.count * all.cols, part.values.begin());
      row += piece.count;
    }
    return parts;
  }

  Backend& backend_;
  AttentionShape shape_;
  Matrix rotary_;
  std::vector<Matrix> qkv_;
  std::vector<std::vector<int32_t>> block_tables_;
  size_t half_bytes_ = 0;
  VisibleVector<std::byte> cache_;
  VisibleVector<float> rotated_;
};

// A head's vector after the rotation, in float32 (the rotation's own error has its own test), or in
// double.
template <class Real>
std::vector<Real> Rotated(
    const Matrix& qkv, const Matrix& rotary, int64_t row, int64_t first_col, int head_dim) {
  std::vector<Real> head(static_cast<size_t>(head_dim));
  for (int i = 0; i < head_dim; ++i)
    head[static_cast<size_t>(i)] = static_cast<Real>(qkv(row, first_col + i));
  const int half = static_cast<int>(rotary.cols / 2);
  for (int i = 0; i < half; ++i) {
    const Real cosine = static_cast<Real>(rotary(row, i));
    const Real sine = static_cast<Real>(rotary(row, half + i));
    Real& low = head[static_cast<size_t>(i)];
    Real& high = head[static_cast<size_t>(half + i)];
    const Real first = low;
    low = first * cosine - high * sine;
    high = high * cosine + first * sine;
  }
  return head;
}

// Checks the outputs of one head of one row against softmax attention in double.
void ExpectAttention(const AttentionFixture& fixture,
                     const AttentionShape& shape,
                     const BackendCase& backend,
                     int sequence,
                     int64_t position,
                     int head,
                     const float* actual) {
  const DType dtype = backend.dtype;
  const Matrix& qkv = fixture.qkv(sequence);
  const int kv_head = head / (shape.num_heads / shape.num_key_value_heads);
  const auto query =
      Rotated<float>(qkv, fixture.rotary(), position, head * shape.head_dim, shape.head_dim);
  std::vector<double> scores;
  double score_bound = 0;
  for (int64_t p = 0; p <= position; ++p) {
    const auto key = Rotated<float>(
        qkv, fixture.rotary(), p, shape.query_cols() + kv_head * shape.head_dim, shape.head_dim);
    double sum = 0;
    double magnitude = 0;
    for (size_t d = 0; d < key.size(); ++d) {
      const double term = static_cast<double>(query[d]) * Stored(dtype, key[d]);
      sum += term;
      magnitude += std::abs(term);
    }
    const double scale = 1 / std::sqrt(static_cast<double>(shape.head_dim));
    scores.push_back(sum * scale);
    score_bound = std::max(
        score_bound,
        (AccumulatedRoundoff(shape.head_dim + 4) + backend.attention_roundoff) * magnitude * scale);
  }
  const double largest = *std::max_element(scores.begin(), scores.end());
  double total = 0;
  for (double& score : scores) total += score = std::exp(score - largest);
  for (int d = 0; d < shape.head_dim; ++d) {
    double expected = 0;
    double magnitude = 0;
    for (int64_t p = 0; p <= position; ++p) {
      const int64_t col =
          shape.query_cols() + shape.key_value_cols() + kv_head * shape.head_dim + d;
      const double term = scores[static_cast<size_t>(p)] / total * Stored(dtype, qkv(p, col));
      expected += term;
      magnitude += std::abs(term);
    }
    // A weight is off by its exponent's error (twice: it stands above and below the fraction), by
    // e^x (2 ulp), by up to one rescaling a block and by the rounding of the weight; the sum over
    // positions rounds once each.
    const double blocks = static_cast<double>(position) / kKvBlockTokens + 1;
    const double relative = 4 * score_bound + 2 * backend.attention_roundoff +
                            AccumulatedRoundoff(static_cast<double>(position) + 10 * blocks + 10);
    const double bound = relative * magnitude + StorageError(dtype, expected);
    ASSERT_NEAR(actual[d], expected, bound * 1.01 + 1e-37)
        << "position " << position << ", head " << head << ", " << d;
  }
}

class AttentionTest : public KernelTest {};
class AttentionBitsTest : public KernelTest {};

TEST_P(AttentionTest, MatchesSoftmaxInDouble) {
  const auto backend = MakeBackend();
  for (const AttentionShape& shape : kShapes) {
    SCOPED_TRACE(testing::Message()
                 << "head_dim " << shape.head_dim << ", heads " << shape.num_heads);
    AttentionFixture fixture(*backend, shape, {77, 1, 16, 33});
    const auto outputs = fixture.Step({{0, 0, 77}, {1, 0, 1}, {2, 0, 16}, {3, 0, 33}});
    for (int sequence = 0; sequence < 4; ++sequence) {
      const Matrix& out = outputs[static_cast<size_t>(sequence)];
      for (int64_t row = 0; row < out.rows; ++row) {
        for (int head = 0; head < shape.num_heads; ++head) {
          const float* actual =
              &out.values[static_cast<size_t>(row * out.cols + head * shape.head_dim)];
          ExpectAttention(fixture, shape, GetParam(), sequence, row, head, actual);
        }
      }
    }
  }
}

TEST_P(AttentionTest, RotatesQueries) {
  const auto backend = MakeBackend();
  for (const AttentionShape& shape : kShapes) {
    AttentionFixture fixture(*backend, shape, {40});
    fixture.Step({{0, 0, 40}});
    for (int64_t row = 0; row < 40; ++row) {
      for (int head = 0; head < shape.num_heads; ++head) {
        const int64_t col = head * shape.head_dim;
        const auto expected =
            Rotated<double>(fixture.qkv(0), fixture.rotary(), row, col, shape.head_dim);
        for (int d = 0; d < shape.head_dim; ++d) {
          const float actual =
              fixture.rotated()[static_cast<size_t>(row * shape.qkv_cols() + col + d)];
          // Two products and a sum of values of a normal distribution below 6.
          ASSERT_NEAR(actual, expected[static_cast<size_t>(d)], AccumulatedRoundoff(2) * 12);
        }
      }
    }
  }
}

// I1: the same bits as one prefill, in chunks of any size, token by token, in company and on any
// number of threads.
TEST_P(AttentionBitsTest, ChunksDoNotChangeBits) {
  constexpr int kLength = 77;
  for (const AttentionShape& shape : kShapes) {
    const auto one_thread = MakeBackend(1);
    const Matrix whole = AttentionFixture(*one_thread, shape, {kLength}).Step({{0, 0, kLength}})[0];
    for (const int threads : GetParam().thread_counts) {
      const auto backend = MakeBackend(threads);
      for (const int chunk : {1, 2, 3, 5, 8, 16, 17, 40}) {
        AttentionFixture fixture(*backend, shape, {kLength, kLength});
        for (int first = 0; first < kLength; first += chunk) {
          const int count = std::min(chunk, kLength - first);
          // The other sequence has other values and stands before and after in turn.
          const bool is_first = first % 2 == 0;
          const std::vector<Piece> pieces = {{is_first ? 0 : 1, first, count},
                                             {is_first ? 1 : 0, first, count}};
          const Matrix part = fixture.Step(pieces)[is_first ? 0 : 1];
          ASSERT_EQ(std::memcmp(part.values.data(),
                                &whole.values[static_cast<size_t>(first * whole.cols)],
                                part.values.size() * sizeof(float)),
                    0)
              << "chunk " << chunk << " at " << first << ", " << threads << " threads, head_dim "
              << shape.head_dim;
        }
      }
    }
  }
}

// Scores that differ by hundreds: the running maximum moves late, and what lies far below it
// vanishes without a NaN.
TEST_P(AttentionTest, LargeScores) {
  const auto backend = MakeBackend();
  const AttentionShape shape = {
      .num_heads = 1, .num_key_value_heads = 1, .head_dim = 16, .rotary_dim = 0};
  constexpr int kLength = 50;
  VisibleVector<float> qkv(static_cast<size_t>(kLength * shape.qkv_cols()));
  std::vector<int32_t> positions(kLength), tokens(kLength), blocks = {0, 1, 2, 3};
  for (int row = 0; row < kLength; ++row) {
    positions[static_cast<size_t>(row)] = row;
    for (int d = 0; d < 16; ++d) {
      float* values = &qkv[static_cast<size_t>(row * shape.qkv_cols() + d)];
      values[0] = 16.0F;
      values[16] = static_cast<float>(row - 25);
      values[32] = static_cast<float>(row);
    }
  }
  VisibleVector<std::byte> cache(4 * backend->KvBlockBytes(shape));
  const KvLayer layer = {cache.data(), cache.data() + cache.size() / 2};
  OperandBuffer out(dtype(), kLength, 16);
  const SequenceRows sequence = {.num_rows = kLength};
  backend->BeginStep({tokens, positions, std::span(&sequence, 1), blocks, {}});
  backend->RotaryAndCacheWrite(shape, nullptr, qkv.data(), layer);
  backend->PagedAttention(shape, qkv.data(), layer, out.operands());
  ASSERT_TRUE(backend->FinishStep().ok());
  // Each later key scores 64 more, so the newest position takes all the weight.
  const Matrix values = out.Values();
  for (int row = 0; row < kLength; ++row) {
    for (int d = 0; d < 16; ++d) ASSERT_EQ(values(row, d), static_cast<float>(row));
  }
}

INSTANTIATE_TEST_SUITE_P(Machine, AttentionTest, testing::ValuesIn(MachineCases()), CaseName);
INSTANTIATE_TEST_SUITE_P(Machine, AttentionBitsTest, testing::ValuesIn(InvariantCases()), CaseName);

}  // namespace
}  // namespace phi::kernels
