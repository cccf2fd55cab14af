#include <cuda_runtime_api.h>

#include <map>
#include <mutex>

#include "kernels/base/check.h"
#include "kernels/cuda/cuda_backend.h"
#include "shard/collective/nccl_communicator.h"
#include "tests/parallel/rank_kinds.h"

namespace phi::shard {
namespace {

// The id of the group that has this store: whoever comes first makes it.
std::string UniqueIdOf(const std::string& store_dir) {
  static std::mutex mutex;
  static std::map<std::string, std::string> ids;
  const std::lock_guard lock(mutex);
  std::string& id = ids[store_dir];
  if (id.empty()) {
    auto made = MakeNcclUniqueId();
    PHI_CHECK(made.ok(), "%s", made.status().ToString().c_str());
    id = *std::move(made);
  }
  return id;
}

// Rank r on device r.
RankParts MakeRank(kernels::DType dtype, bool batch_invariant, const RankPlace& place) {
  auto backend = kernels::MakeCudaBackend(
      {.device = place.rank, .dtype = dtype, .batch_invariant = batch_invariant});
  PHI_CHECK(backend.ok(), "%s", backend.status().ToString().c_str());
  auto communicator = MakeNcclCommunicator(
      place.rank,
      place.world_size,
      place.world_size > 1 ? UniqueIdOf(place.store_dir) : "",
      **backend,
      {.rank_order = batch_invariant, .max_values = int64_t{1} << 20, .destroy_together = true});
  PHI_CHECK(communicator.ok(), "%s", communicator.status().ToString().c_str());
  return {*std::move(backend), *std::move(communicator)};
}

RankKind KindOf(kernels::DType dtype, bool batch_invariant) {
  return {.name = batch_invariant ? "cuda_batch_invariant" : "cuda",
          .dtype = dtype,
          .maker = [=](int /*threads*/) {
            return [=](const RankPlace& place) { return MakeRank(dtype, batch_invariant, place); };
          }};
}

}  // namespace

RankKind DefaultRanks(kernels::DType dtype) { return KindOf(dtype, /*batch_invariant=*/false); }

std::vector<RankKind> InvariantRanks(kernels::DType dtype) {
  return {KindOf(dtype, /*batch_invariant=*/true)};
}

std::vector<kernels::DType> DTypesOfEqualDraws() {
  if (IsEmulated()) return {kernels::DType::kFloat32, kernels::DType::kBFloat16};
  // What GPUs make of bfloat16's sums nobody has seen; model_parallel_test holds log-probabilities
  // to a bound there.
  return {kernels::DType::kFloat32};
}

int MostRanks() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

bool IsEmulated() {
#ifdef PHI_EMULATED
  return true;
#else
  return false;
#endif
}

}  // namespace phi::shard
