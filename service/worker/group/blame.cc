#include "service/worker/group/blame.h"

#include <algorithm>
#include <tuple>

#include "absl/strings/str_format.h"

namespace phi::service {

using Activity = shard::RankProgress::Activity;

RankSnapshot ReadSnapshot(const shard::RankProgress& progress) {
  RankSnapshot snapshot;
  snapshot.steps_started = progress.steps_started.load();
  snapshot.steps_finished = progress.steps_finished.load();
  snapshot.activity = progress.activity.load();
  snapshot.collective_index = progress.collective_index.load();
  snapshot.last_change_ns = progress.last_change_ns.load();
  return snapshot;
}

bool IsStalled(const RankSnapshot& snapshot,
               int64_t now_ns,
               int64_t awake_since_ns,
               int64_t limit_ns) {
  if (snapshot.steps_started == 0) return false;
  return now_ns - std::max(snapshot.last_change_ns, awake_since_ns) > limit_ns;
}

int RankToBlame(std::span<const RankSnapshot> snapshots) {
  // Less is further behind. Inside a collective is further than before it.
  const auto progress = [](const RankSnapshot& s) {
    const bool in_step = s.steps_started > s.steps_finished;
    return std::tuple(!s.stopped,
                      s.steps_started,
                      s.steps_finished,
                      in_step ? s.collective_index : 0,
                      in_step && s.activity == Activity::kInCollective);
  };
  const auto last =
      std::min_element(snapshots.begin(), snapshots.end(), [&](const auto& a, const auto& b) {
        return progress(a) < progress(b);
      });
  return static_cast<int>(last - snapshots.begin());
}

std::string WhereItStands(const RankSnapshot& snapshot, int num_layers) {
  if (snapshot.steps_started == 0) return "starting";
  if (snapshot.steps_started == snapshot.steps_finished) return "idle";
  if (snapshot.activity != Activity::kInCollective) return "computing";
  if (snapshot.collective_index > static_cast<uint32_t>(num_layers))
    return "in the gather of the logits";
  return absl::StrFormat("in the all-reduce of layer %d",
                         static_cast<int>(snapshot.collective_index) - 1);
}

}  // namespace phi::service
