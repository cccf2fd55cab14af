#include <limits>

#include "kernels/base/check.h"
#include "kernels/cpu/cpu_backend.h"
#include "shard/collective/gloo_communicator.h"
#include "shard/collective/single_rank_communicator.h"
#include "tests/parallel/rank_kinds.h"

namespace phi::shard {
namespace {

RankParts MakeRank(const kernels::CpuOptions& options, const RankPlace& place) {
  auto backend = kernels::MakeCpuBackend(options);
  PHI_CHECK(backend.ok(), "%s", backend.status().ToString().c_str());
  if (place.world_size == 1) return {*std::move(backend), MakeSingleRankCommunicator()};
  auto communicator =
      MakeGlooCommunicator(place.rank, place.world_size, {.store_dir = place.store_dir});
  PHI_CHECK(communicator.ok(), "%s", communicator.status().ToString().c_str());
  return {*std::move(backend), *std::move(communicator)};
}

RankKind KindOf(kernels::DType dtype, kernels::Isa isa) {
  return {.name = std::string(kernels::IsaName(isa)), .dtype = dtype, .maker = [=](int threads) {
            return [=](const RankPlace& place) {
              return MakeRank({.dtype = dtype, .threads = threads, .isa = isa}, place);
            };
          }};
}

}  // namespace

RankKind DefaultRanks(kernels::DType dtype) { return KindOf(dtype, kernels::BestIsa()); }

std::vector<RankKind> InvariantRanks(kernels::DType dtype) {
  std::vector<RankKind> kinds;
  for (const kernels::Isa isa : kernels::MachineIsas()) kinds.push_back(KindOf(dtype, isa));
  return kinds;
}

std::vector<kernels::DType> DTypesOfEqualDraws() {
  return {kernels::DType::kFloat32, kernels::DType::kBFloat16};
}

int MostRanks() { return std::numeric_limits<int>::max(); }
bool IsEmulated() { return false; }

}  // namespace phi::shard
