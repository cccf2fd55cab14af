#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "shard/rank.h"

namespace phi::bench {

struct GroupShape {
  std::string model_dir;
  int world_size = 1;
  kernels::CpuOptions cpu = {};
};

// One kind of step, run `repeats` times: `batch` sequences of `rows` new tokens each after
// `context` cached ones.
struct StepRequest {
  uint32_t batch = 1;
  uint32_t rows = 1;
  uint32_t context = 0;
  uint32_t repeats = 1;
};

struct GroupFigures {
  double ready_seconds = 0;   // from fork to a finished first step, all ranks
  size_t planned_bytes = 0;   // all ranks
  size_t peak_pss_bytes = 0;  // while loading, sampled
  size_t ready_pss_bytes = 0;
};

// A tensor-parallel group of real processes over Gloo, driven without a service. Forked from a
// process that has no other threads yet; ended with it. Any error ends the program with one line: a
// benchmark has nothing to recover.
class RankProcesses {
 public:
  explicit RankProcesses(const GroupShape& shape);
  ~RankProcesses();
  RankProcesses(const RankProcesses&) = delete;
  RankProcesses& operator=(const RankProcesses&) = delete;

  // Waits until all ranks have loaded and run one step, watching their memory.
  GroupFigures WaitReady();
  // Seconds a step: the median of the repeats.
  double Run(const StepRequest& request);

 private:
  size_t SumPss() const;

  int control_ = -1;  // to rank 0
  double started_ = 0;
  std::vector<pid_t> pids_;
  std::string store_dir_;
};

}  // namespace phi::bench
