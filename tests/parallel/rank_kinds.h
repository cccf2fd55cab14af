#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "shard/collective/communicator.h"

// What the ranks of a program of group suites are made of: cpu_ranks.cc or cuda_ranks.cc is linked
// in.
namespace phi::shard {

struct RankPlace {
  int rank = 0;
  int world_size = 1;
  std::string store_dir;  // empty at first, the same for all ranks of a group
};

struct RankParts {
  std::unique_ptr<kernels::Backend> backend;
  std::unique_ptr<Communicator> communicator;  // goes before the backend
};

// Called once a rank, each on the rank's thread; returns when all ranks of the group have called.
using RankMaker = std::function<RankParts(const RankPlace& place)>;

struct RankKind {
  std::string name;
  kernels::DType dtype = kernels::DType::kFloat32;
  std::function<RankMaker(int threads)> maker = {};
};

// What serves by default.
RankKind DefaultRanks(kernels::DType dtype);
// All that keep I1 bit by bit.
std::vector<RankKind> InvariantRanks(kernels::DType dtype);

// The dtypes in which all world sizes draw the same tokens. In 16 bits a sum's last bit may tip an
// operand's rounding, which moves a log-probability by up to 2^-8 and so may move a draw: those are
// named only where the same sums come out on every machine, and the suites' draws are equal.
std::vector<kernels::DType> DTypesOfEqualDraws();

// Ranks that this machine has room for: on GPUs, their number.
int MostRanks();
// Whether a step takes a thousand times what it takes on a device: suites then run the same cases
// on less.
bool IsEmulated();

}  // namespace phi::shard
