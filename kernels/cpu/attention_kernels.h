#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/simd_math.h"

// Attention of a few query rows of one head over the paged cache, block by block from position 0
// upwards, with the running maximum and sum of Milakov and Gimelshein, "Online normalizer
// calculation for softmax" (2018).
//
// Rows in one tile share the loads of keys and values and nothing else: a row's scores, weights and
// sums are the same chains of operations in a tile of one and a tile of eight, and a position that
// the row may not see never enters them, not even times zero. So a row's bits do not depend on the
// chunk it came in (I1).
namespace phi::kernels {
namespace {

// Scores of kRows queries against the 16 positions of a block.
template <class Element, class Simd, int kRows>
void BlockScores(const AttentionArgs& args,
                 const float* query,
                 const typename Element::Storage* keys,
                 typename Simd::Vec* scores) {
  typename Simd::Vec sums[kRows];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) sums[r] = Simd::Zero();
  for (int64_t d = 0; d < args.head_dim; ++d) {
    const auto key = Element::Load(keys + d * kAttentionBlock);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      sums[r] = Simd::MulAdd(Simd::Set(query[r * args.query_stride + d]), key, sums[r]);
    }
  }
  for (int r = 0; r < kRows; ++r) scores[r] = Simd::Mul(sums[r], Simd::Set(args.scale));
}

// outputs[r] += weights[r] · values, for whole blocks.
template <class Element, class Simd, int kRows>
void AddValues(const typename Element::Storage* values,
               int64_t padded_dim,
               const float (*weights)[kAttentionBlock],
               float* outputs) {
  for (int64_t d = 0; d < padded_dim; d += kLanes) {
    typename Simd::Vec sums[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) sums[r] = Simd::Load(outputs + r * padded_dim + d);
    for (int t = 0; t < kAttentionBlock; ++t) {
      const auto value = Element::Load(values + t * padded_dim + d);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r)
        sums[r] = Simd::MulAdd(Simd::Set(weights[r][t]), value, sums[r]);
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) Simd::Store(outputs + r * padded_dim + d, sums[r]);
  }
}

// The same for one row and the first `visible` positions of a block.
template <class Element, class Simd>
void AddVisibleValues(const typename Element::Storage* values,
                      int64_t padded_dim,
                      const float* weights,
                      int visible,
                      float* outputs) {
  for (int64_t d = 0; d < padded_dim; d += kLanes) {
    auto sum = Simd::Load(outputs + d);
    for (int t = 0; t < visible; ++t) {
      sum = Simd::MulAdd(Simd::Set(weights[t]), Element::Load(values + t * padded_dim + d), sum);
    }
    Simd::Store(outputs + d, sum);
  }
}

// A row's running softmax. The sum is kept by lane and added up at the end.
template <class Simd>
struct RunningSoftmax {
  float largest;
  typename Simd::Vec sum;
};

// Weights e^(score - largest so far) of the block's visible positions; what was summed before is
// rescaled if the largest grew.
template <class Simd>
void UpdateSoftmax(typename Simd::Vec scores,
                   int visible,
                   int64_t padded_dim,
                   RunningSoftmax<Simd>& softmax,
                   float* weights,
                   float* outputs) {
  if (visible < kAttentionBlock) scores = Simd::KeepFirst(scores, visible, -__builtin_inff());
  const float block_largest = Simd::LargestLane(scores);
  if (block_largest > softmax.largest) {
    const auto shrink = Exp<Simd>(Simd::Set(softmax.largest - block_largest));
    softmax.sum = Simd::Mul(softmax.sum, shrink);
    for (int64_t d = 0; d < padded_dim; d += kLanes) {
      Simd::Store(outputs + d, Simd::Mul(Simd::Load(outputs + d), shrink));
    }
    softmax.largest = block_largest;
  }
  auto exps = Exp<Simd>(Simd::Sub(scores, Simd::Set(softmax.largest)));
  if (visible < kAttentionBlock) exps = Simd::KeepFirst(exps, visible, 0.0F);
  softmax.sum = Simd::Add(softmax.sum, exps);
  Simd::Store(weights, exps);
}

// Adds block `block` of the cache to kRows rows from `first` on. outputs [kRows][padded head_dim].
template <class Element, class Simd, int kRows>
void AttendBlock(const AttentionArgs& args,
                 int64_t first,
                 int64_t block,
                 RunningSoftmax<Simd>* softmax,
                 float* outputs) {
  const int64_t padded_dim = PaddedHeadDim(args.head_dim);
  const int64_t offset = args.block_ids[block] * args.block_stride;
  const auto* keys = reinterpret_cast<const typename Element::Storage*>(args.keys + offset);
  const auto* values = reinterpret_cast<const typename Element::Storage*>(args.values + offset);
  typename Simd::Vec scores[kRows];
  BlockScores<Element, Simd, kRows>(args, args.query + first * args.query_stride, keys, scores);
  // Positions of the block that the first row sees; each later row sees one more.
  const int64_t first_sees = args.first_position + first + 1 - block * kAttentionBlock;
  float weights[kRows][kAttentionBlock];
  for (int r = 0; r < kRows; ++r) {
    const int64_t sees = first_sees + r;
    if (sees <= 0) continue;
    const int visible = sees < kAttentionBlock ? static_cast<int>(sees) : kAttentionBlock;
    float* row_outputs = outputs + r * padded_dim;
    UpdateSoftmax<Simd>(scores[r], visible, padded_dim, softmax[r], weights[r], row_outputs);
    if (first_sees >= kAttentionBlock) continue;
    AddVisibleValues<Element, Simd>(values, padded_dim, weights[r], visible, row_outputs);
  }
  if (first_sees >= kAttentionBlock) {
    AddValues<Element, Simd, kRows>(values, padded_dim, weights, outputs);
  }
}

// Rows first .. first + kRows - 1.
template <class Element, class Simd, int kRows>
void AttendTile(const AttentionArgs& args, int64_t first, float* outputs) {
  const int64_t padded_dim = PaddedHeadDim(args.head_dim);
  for (int64_t i = 0; i < kRows * padded_dim; ++i) outputs[i] = 0.0F;
  RunningSoftmax<Simd> softmax[kRows];
  for (int r = 0; r < kRows; ++r) softmax[r] = {-__builtin_inff(), Simd::Zero()};
  const int64_t last_position = args.first_position + first + kRows - 1;
  for (int64_t block = 0; block * kAttentionBlock <= last_position; ++block) {
    AttendBlock<Element, Simd, kRows>(args, first, block, softmax, outputs);
  }
  for (int r = 0; r < kRows; ++r) {
    const auto sum = Simd::Set(SumOfLanes<Simd>(softmax[r].sum));
    const float* from = outputs + r * padded_dim;
    auto* to =
        reinterpret_cast<typename Element::Storage*>(args.out) + (first + r) * args.out_stride;
    for (int64_t d = 0; d < args.head_dim; d += kLanes) {
      StoreFirst<Element>(to + d, Simd::Div(Simd::Load(from + d), sum), args.head_dim - d);
    }
  }
}

template <class Element, class Simd>
void Attend(const AttentionArgs& args, float* scratch) {
  int64_t row = 0;
  if constexpr (Simd::kAttentionRows >= 8) {
    for (; args.rows - row >= 8; row += 8) AttendTile<Element, Simd, 8>(args, row, scratch);
  }
  for (; args.rows - row >= 4; row += 4) AttendTile<Element, Simd, 4>(args, row, scratch);
  if (args.rows - row >= 2) {
    AttendTile<Element, Simd, 2>(args, row, scratch);
    row += 2;
  }
  if (args.rows - row >= 1) AttendTile<Element, Simd, 1>(args, row, scratch);
}

}  // namespace
}  // namespace phi::kernels
