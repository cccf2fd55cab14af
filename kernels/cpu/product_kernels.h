#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/simd_math.h"

// Matrix products, as templates over a Family: a vector type together with a weight layout and an
// inner step.
//
// An output is one chain of multiply-adds over K in ascending order, in one register lane, whatever
// the size of the tile that it is computed in; where K is cut into cache blocks the sum waits in
// memory as the float it is. That is all of I1 for products: tiles and blocks may be chosen for
// speed alone.
//
// Operands are packed before the product, tile by tile: for a tile of R rows, step by step, R
// operands of one step side by side. A tile therefore reads its operands in order, and odd K needs
// no special case.
namespace phi::kernels {
namespace {

// float32 weights and operands.
template <class SimdType>
struct Float32Family {
  using Simd = SimdType;
  using Element = Float32Element<Simd>;
  using Operand = float;  // what one step takes of one row
  static constexpr int64_t kInputsPerStep = 1;
  struct Weights {
    typename Simd::Vec vec;
  };

  static Operand PackOperand(const float* in, int64_t available) {
    return available > 0 ? in[0] : 0.0F;
  }
  static Weights LoadWeights(const std::byte* from) {
    return {Simd::Load(reinterpret_cast<const float*>(from))};
  }
  static typename Simd::Vec MultiplyAdd(const Operand& x,
                                        const Weights& w,
                                        typename Simd::Vec sum) {
    return Simd::MulAdd(Simd::Set(x), w.vec, sum);
  }
};

// bfloat16 weights and operands without bfloat16 arithmetic: both are widened, exactly, the
// operands when packed.
template <class SimdType>
struct WidenedBFloat16Family {
  using Simd = SimdType;
  using Element = BFloat16Element<Simd>;
  struct Operand {
    float first;
    float second;
  };
  static constexpr int64_t kInputsPerStep = 2;
  struct Weights {
    typename Simd::Vec first;
    typename Simd::Vec second;
  };

  static float Widen(uint16_t value) {
    return __builtin_bit_cast(float, static_cast<uint32_t>(value) << 16);
  }
  static Operand PackOperand(const uint16_t* in, int64_t available) {
    return {Widen(in[0]), available > 1 ? Widen(in[1]) : 0.0F};
  }
  static Weights LoadWeights(const std::byte* from) {
    Weights weights;
    Simd::LoadBFloat16Pairs(from, weights.first, weights.second);
    return weights;
  }
  static typename Simd::Vec MultiplyAdd(const Operand& x,
                                        const Weights& w,
                                        typename Simd::Vec sum) {
    sum = Simd::MulAdd(Simd::Set(x.first), w.first, sum);
    return Simd::MulAdd(Simd::Set(x.second), w.second, sum);
  }
};

constexpr int64_t kStepBytesOfPanel = 64;
constexpr int64_t kPanelOutputs = 16;
// How far ahead of their use a tile fetches its weights, all its panels together: enough lines to
// cover the latency of memory at one core's bandwidth.
constexpr int64_t kPrefetchBytes = 8192;
// The same for operands, which come from the last-level cache in the first of a group's panels.
constexpr int64_t kOperandPrefetchBytes = 4096;

// Products of several tiles walk over K in blocks of this many steps, each for all panels of a
// group: the operands of a block stay in the second-level cache for the group's panels, the weights
// in the first for its tiles.
constexpr int64_t kBlockSteps = 256;

// The rows of a product, cut into the fewest tiles and those as equal as can be: the first `taller`
// have one row more.
struct RowTiles {
  int64_t count;
  int64_t base_rows;
  int64_t taller;

  RowTiles(int64_t rows, int64_t max_tile_rows) {
    count = (rows + max_tile_rows - 1) / max_tile_rows;
    base_rows = rows / count;
    taller = rows % count;
  }
  int64_t RowsOf(int64_t tile) const { return base_rows + (tile < taller ? 1 : 0); }
  int64_t FirstRowOf(int64_t tile) const {
    return tile * base_rows + (tile < taller ? tile : taller);
  }
  int64_t TileOf(int64_t row) const {
    const int64_t in_taller = taller * (base_rows + 1);
    return row < in_taller ? row / (base_rows + 1) : taller + (row - in_taller) / base_rows;
  }
  int64_t MaxRows() const { return RowsOf(0); }
};

// Where in the packed operands of `block_rows` rows the steps [step, end_step) of one K block and
// the tile of `first_row` begin: block by block, and in a block tile by tile, as Multiply() walks.
constexpr int64_t OperandOffset(int64_t block_rows,
                                int64_t first_row,
                                int64_t step,
                                int64_t end_step) {
  return step * block_rows + first_row * (end_step - step);
}

// Rows first .. end - 1, all of one tile; few steps of all of them at a time, because they share
// cache lines.
template <class Family>
void PackTileRows(
    const OperandRows& in, int64_t block_rows, int64_t first, int64_t end, std::byte* packed) {
  using Storage = typename Family::Element::Storage;
  constexpr int64_t kStepsAtATime = 64;
  static_assert(kBlockSteps % kStepsAtATime == 0);
  const RowTiles tiles(block_rows, Family::Simd::kMaxTileRows);
  const int64_t tile = tiles.TileOf(first);
  const int64_t tile_rows = tiles.RowsOf(tile);
  const int64_t first_row = tiles.FirstRowOf(tile);
  const int64_t steps = (in.cols + Family::kInputsPerStep - 1) / Family::kInputsPerStep;
  for (int64_t step = 0; step < steps; step += kStepsAtATime) {
    const int64_t block = step / kBlockSteps * kBlockSteps;
    const int64_t block_end = steps - block < kBlockSteps ? steps : block + kBlockSteps;
    const int64_t end_step = block_end - step < kStepsAtATime ? block_end : step + kStepsAtATime;
    auto* to = reinterpret_cast<typename Family::Operand*>(packed) +
               OperandOffset(block_rows, first_row, block, block_end) + (step - block) * tile_rows;
    for (int64_t row = first; row < end; ++row) {
      const int64_t source = in.row_index == nullptr ? row : in.row_index[row];
      const auto* from = reinterpret_cast<const Storage*>(in.data) + source * in.stride;
      for (int64_t i = step; i < end_step; ++i) {
        const int64_t col = i * Family::kInputsPerStep;
        to[(i - step) * tile_rows + row - first_row] =
            Family::PackOperand(from + col, in.cols - col);
      }
    }
  }
}

template <class Family>
void PackOperands(
    const OperandRows& in, int64_t block_rows, int64_t first, int64_t end, std::byte* packed) {
  const RowTiles tiles(block_rows, Family::Simd::kMaxTileRows);
  for (int64_t row = first; row < end;) {
    const int64_t tile = tiles.TileOf(row);
    const int64_t tile_end = tiles.FirstRowOf(tile) + tiles.RowsOf(tile);
    const int64_t stop = tile_end < end ? tile_end : end;
    PackTileRows<Family>(in, block_rows, row, stop, packed);
    row = stop;
  }
}

template <class Family>
int64_t PackedRowBytes(int64_t steps) {
  return steps * static_cast<int64_t>(sizeof(typename Family::Operand));
}

// Some steps of kRows x (kVecs panels). sums [kRows][kVecs * 16] is read first if `resume`.
struct TileArgs {
  const std::byte* operands;
  const std::byte* weights;
  int64_t panel_bytes;
  int64_t steps;
  float* sums;
  bool resume;
};

template <class Family, int kRows, int kVecs>
void MultiplyTile(const TileArgs& args) {
  using Simd = typename Family::Simd;
  typename Simd::Vec sums[kRows][kVecs];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) {
      sums[r][v] =
          args.resume ? Simd::Load(args.sums + (r * kVecs + v) * kPanelOutputs) : Simd::Zero();
    }
  }
  const auto* operands = reinterpret_cast<const typename Family::Operand*>(args.operands);
  const std::byte* weights = args.weights;
  for (int64_t step = 0; step < args.steps; ++step) {
    typename Family::Weights w[kVecs];
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) {
      w[v] = Family::LoadWeights(weights + v * args.panel_bytes);
      __builtin_prefetch(weights + v * args.panel_bytes + kPrefetchBytes / kVecs);
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v)
        sums[r][v] = Family::MultiplyAdd(operands[r], w[v], sums[r][v]);
    }
    __builtin_prefetch(reinterpret_cast<const std::byte*>(operands) + 1024);
    __builtin_prefetch(reinterpret_cast<const std::byte*>(operands) + kOperandPrefetchBytes);
    operands += kRows;
    weights += kStepBytesOfPanel;
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v)
      Simd::Store(args.sums + (r * kVecs + v) * kPanelOutputs, sums[r][v]);
  }
}

using TileKernel = void (*)(const TileArgs&);

// A tile fits if its sums and weights stay in registers.
template <class Simd>
constexpr bool TileFits(int64_t rows, int64_t vecs) {
  return rows * vecs <= Simd::kMaxTileSums && vecs <= Simd::kMaxTileVecs;
}

template <class Family, int kRows, int kVecs>
constexpr TileKernel TileKernelIfFits() {
  if constexpr (TileFits<typename Family::Simd>(kRows, kVecs)) {
    return MultiplyTile<Family, kRows, kVecs>;
  } else {
    return nullptr;
  }
}

// The tiles of kRows rows, by log2 of their panels.
constexpr int kTileWidths = 3;
struct TileRow {
  TileKernel by_log2_vecs[kTileWidths];
};

template <class Family, int kRows>
constexpr TileRow TileRowFor() {
  return {{TileKernelIfFits<Family, kRows, 1>(),
           TileKernelIfFits<Family, kRows, 2>(),
           TileKernelIfFits<Family, kRows, 4>()}};
}

// By rows - 1.
template <class Family>
struct TileTable {
  static constexpr TileRow kRows[12] = {TileRowFor<Family, 1>(),
                                        TileRowFor<Family, 2>(),
                                        TileRowFor<Family, 3>(),
                                        TileRowFor<Family, 4>(),
                                        TileRowFor<Family, 5>(),
                                        TileRowFor<Family, 6>(),
                                        TileRowFor<Family, 7>(),
                                        TileRowFor<Family, 8>(),
                                        TileRowFor<Family, 9>(),
                                        TileRowFor<Family, 10>(),
                                        TileRowFor<Family, 11>(),
                                        TileRowFor<Family, 12>()};
};

// One vector of sums of outputs n .. n + 15 of one row, to where it belongs.
template <class Family>
void FinishOutputs(const ProductArgs& args,
                   int64_t row,
                   int64_t n,
                   typename Family::Simd::Vec sums) {
  using Simd = typename Family::Simd;
  using Element = typename Family::Element;
  const ProductOutput& out = args.output;
  const int64_t count = args.outputs - n < kPanelOutputs ? args.outputs - n : kPanelOutputs;
  if (out.bias != nullptr)
    sums = Simd::Add(sums, LoadFirst<Float32Element<Simd>>(out.bias + n, count));
  const int64_t plain = out.split - n;  // lanes below the split
  if (plain > 0) {
    StoreFirst<Float32Element<Simd>>(
        out.plain + row * out.split + n, sums, plain < count ? plain : count);
  }
  if (plain >= count) return;
  auto* gelu_row = reinterpret_cast<typename Element::Storage*>(out.gelu) + row * out.gelu_stride;
  const auto activated = GeluNew<Simd>(sums);
  if (plain <= 0) return StoreFirst<Element>(gelu_row - plain, activated, count);
  typename Element::Storage lanes[kLanes];  // the one vector that the split goes through
  Element::Store(lanes, activated);
  for (int64_t i = plain; i < count; ++i) gelu_row[i - plain] = lanes[i];
}

// Panels that a tile takes together: `first` and the next, 2^log2_vecs in all.
struct TilePanels {
  int64_t first;
  int log2_vecs;

  int64_t vecs() const { return int64_t{1} << log2_vecs; }
};

// As many of `available` panels from `first` on as tiles of these rows have registers for.
template <class Simd>
TilePanels WidestTile(const RowTiles& tiles, int64_t first, int64_t available) {
  TilePanels panels = {first, kTileWidths - 1};
  while (panels.vecs() > available || !TileFits<Simd>(tiles.MaxRows(), panels.vecs())) {
    --panels.log2_vecs;
  }
  return panels;
}

// Steps [step, end_step) of all rows.
template <class Family>
void MultiplySteps(const ProductArgs& args,
                   const RowTiles& tiles,
                   TilePanels panels,
                   int64_t step,
                   int64_t end_step,
                   float* sums) {
  constexpr int64_t kOperandBytes = sizeof(typename Family::Operand);
  const int64_t panel_bytes = args.steps * kStepBytesOfPanel;
  for (int64_t tile = 0; tile < tiles.count; ++tile) {
    const int64_t first_row = tiles.FirstRowOf(tile);
    const int64_t rows = tiles.RowsOf(tile);
    const TileKernel multiply = TileTable<Family>::kRows[rows - 1].by_log2_vecs[panels.log2_vecs];
    const int64_t operands = OperandOffset(args.rows, first_row, step, end_step);
    multiply({.operands = args.operands + operands * kOperandBytes,
              .weights = args.weights + panels.first * panel_bytes + step * kStepBytesOfPanel,
              .panel_bytes = panel_bytes,
              .steps = end_step - step,
              .sums = sums + first_row * panels.vecs() * kPanelOutputs,
              .resume = step > 0});
  }
}

template <class Family>
void FinishPanels(const ProductArgs& args, TilePanels panels, const float* sums) {
  for (int64_t row = 0; row < args.rows; ++row) {
    for (int64_t v = 0; v < panels.vecs(); ++v) {
      FinishOutputs<Family>(
          args, row, (panels.first + v) * kPanelOutputs, Family::Simd::Load(sums));
      sums += kPanelOutputs;
    }
  }
}

// Panels first .. end - 1, at most kGroupPanels.
template <class Family>
void MultiplyGroup(
    const ProductArgs& args, const RowTiles& tiles, int64_t first, int64_t end, float* scratch) {
  const int64_t block = tiles.count == 1 ? args.steps : kBlockSteps;
  TilePanels panels;
  for (int64_t step = 0; step < args.steps; step += block) {
    const int64_t end_step = args.steps - step < block ? args.steps : step + block;
    for (int64_t panel = first; panel < end; panel += panels.vecs()) {
      panels = WidestTile<typename Family::Simd>(tiles, panel, end - panel);
      float* sums = scratch + (panel - first) * args.rows * kPanelOutputs;
      MultiplySteps<Family>(args, tiles, panels, step, end_step, sums);
    }
  }
  for (int64_t panel = first; panel < end; panel += panels.vecs()) {
    panels = WidestTile<typename Family::Simd>(tiles, panel, end - panel);
    FinishPanels<Family>(args, panels, scratch + (panel - first) * args.rows * kPanelOutputs);
  }
}

template <class Family>
void Multiply(const ProductArgs& args, int64_t first, int64_t end, float* scratch) {
  const RowTiles tiles(args.rows, Family::Simd::kMaxTileRows);
  for (int64_t panel = first; panel < end; panel += kGroupPanels) {
    const int64_t group_end = end - panel < kGroupPanels ? end : panel + kGroupPanels;
    MultiplyGroup<Family>(args, tiles, panel, group_end, scratch);
  }
}

}  // namespace
}  // namespace phi::kernels
