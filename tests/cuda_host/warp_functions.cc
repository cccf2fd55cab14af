// Built without sanitizers: it reads operands on the stacks of 32 fibers.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "tests/cuda_host/ptx.h"
#include "tests/cuda_host/warp.h"

namespace phi::cuda_host {
namespace {

// A 16-bit operand of the tensor cores.
float Widen(uint32_t pair, int index, bool bfloat16) {
  const auto bits = static_cast<uint16_t>(pair >> (16 * index));
  if (!bfloat16) return __half2float(__half(__half_raw{bits}));
  return __bfloat162float(__nv_bfloat16(__nv_bfloat16_raw{bits}));
}

struct Tiles {
  float a[16][16];
  float b[16][8];
};

// PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type".
void GatherFragments(const MmaOperand& lane_operand, unsigned lane, Tiles& tiles) {
  const unsigned group = lane / 4;
  const unsigned pair = lane % 4 * 2;
  for (int i = 0; i < 4; ++i) {
    const unsigned row = group + (i % 2 == 1 ? 8 : 0);
    const unsigned col = pair + (i >= 2 ? 8 : 0);
    for (int j = 0; j < 2; ++j) {
      tiles.a[row][col + static_cast<unsigned>(j)] =
          Widen(lane_operand.a[i], j, lane_operand.bfloat16);
    }
  }
  for (int i = 0; i < 2; ++i) {
    const unsigned row = pair + (i == 1 ? 8 : 0);
    for (int j = 0; j < 2; ++j) {
      tiles.b[row + static_cast<unsigned>(j)][group] =
          Widen(lane_operand.b[i], j, lane_operand.bfloat16);
    }
  }
}

}  // namespace

void ExchangeValues(void* const operands[kWarp], unsigned mask) {
  uint64_t values[32] = {};
  for (unsigned lane = 0; lane < 32; ++lane) {
    if ((mask >> lane & 1) != 0) values[lane] = static_cast<Exchange*>(operands[lane])->value;
  }
  for (unsigned lane = 0; lane < 32; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    auto& exchange = *static_cast<Exchange*>(operands[lane]);
    if (exchange.source >= 32 || (mask >> exchange.source & 1) == 0) {
      const ThreadContext& self = *current_thread;
      const unsigned source = self.linear / kWarp * kWarp + exchange.source;
      const bool exists = exchange.source < kWarp && source < self.block->num_threads;
      Die("wrong mask: lane %u reads lane %u by a shuffle at %s, which mask %08x lacks; that lane "
          "was last seen at %s",
          lane,
          exchange.source,
          PlaceText(self.seen_at).text,
          mask,
          PlaceText(exists ? self.block->threads[source].seen_at : SourceLine{}).text);
    }
    exchange.value = values[exchange.source];
  }
}

void BallotValues(void* const operands[kWarp], unsigned mask) {
  uint64_t votes = 0;
  for (unsigned lane = 0; lane < 32; ++lane) {
    if ((mask >> lane & 1) != 0) votes |= *static_cast<uint64_t*>(operands[lane]) << lane;
  }
  for (unsigned lane = 0; lane < 32; ++lane) {
    if ((mask >> lane & 1) != 0) *static_cast<uint64_t*>(operands[lane]) = votes;
  }
}

void MultiplyFragments(void* const operands[kWarp], unsigned /*mask*/) {
  Tiles tiles;
  for (unsigned lane = 0; lane < 32; ++lane) {
    GatherFragments(*static_cast<MmaOperand*>(operands[lane]), lane, tiles);
  }
  for (unsigned lane = 0; lane < 32; ++lane) {
    float* const d = static_cast<MmaOperand*>(operands[lane])->d;
    for (unsigned i = 0; i < 4; ++i) {
      const unsigned row = lane / 4 + (i >= 2 ? 8 : 0);
      const unsigned col = lane % 4 * 2 + i % 2;
      float sum = d[i];
      for (unsigned k = 0; k < 16; ++k) sum += tiles.a[row][k] * tiles.b[k][col];
      d[i] = sum;
    }
  }
}

}  // namespace phi::cuda_host
