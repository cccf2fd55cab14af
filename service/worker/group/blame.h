#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "service/worker/group/group_page.h"

// Which rank holds a group up, and where it stands. Pure.
namespace phi::service {

struct RankSnapshot {
  uint64_t steps_started = 0;
  uint64_t steps_finished = 0;
  uint32_t activity = shard::RankProgress::kStarting;
  uint32_t collective_index = 0;  // entered in the present step
  int64_t last_change_ns = 0;
  bool stopped = false;  // by a signal, as the kernel sees it
};

RankSnapshot ReadSnapshot(const shard::RankProgress& progress);

// Whether a rank has stood still for `limit_ns`: in a step, or idle without the plans that show
// that it is alive. A rank that has not begun its first step is starting, which is not judged here.
// `awake_since_ns`: nobody is judged for time in which the supervisor itself did not run.
bool IsStalled(const RankSnapshot& snapshot,
               int64_t now_ns,
               int64_t awake_since_ns,
               int64_t limit_ns);

// The rank furthest behind, and of equals the leader: it owed the others the next plan. A stopped
// one comes first.
int RankToBlame(std::span<const RankSnapshot> snapshots);

// "in the all-reduce of layer 3", "in the gather of the logits", "computing", "idle".
std::string WhereItStands(const RankSnapshot& snapshot, int num_layers);

}  // namespace phi::service
