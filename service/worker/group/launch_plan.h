#pragma once

#include <string>
#include <vector>

#include "service/api/exit_code.h"
#include "service/worker/group/capacity_plan.h"
#include "service/worker/group/rank_spec.h"
#include "service/worker/worker_flags.h"

namespace phi::service {

// What every epoch's ranks are started with: flags, the model directory and the machine put
// together, once.
struct LaunchPlan {
  RankSpec spec;  // without the epoch's own: epoch, descriptors, rendezvous_dir, listen
  CapacityPlan capacity;
  int num_layers = 0;
  std::vector<std::string> notes;  // what was found and chosen, a line each
};

// Why no plan could be made; `message` is one line.
struct LaunchError {
  ExitCode code = ExitCode::kOk;
  std::string message;
};

// Reads config.json and tokenizer.json, no weights, and has a process look for GPUs. The error's
// code is kOk where the plan stands.
LaunchError MakeLaunchPlan(const WorkerOptions& options, LaunchPlan* plan);

// Says it, a line a rank.
void LogPlan(const LaunchPlan& plan);

}  // namespace phi::service
