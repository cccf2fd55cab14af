#pragma once

#include <cstdint>

#include "service/telemetry/metric_page.h"
#include "service/worker/group/rank_group.h"
#include "service/worker/group/rank_spec.h"

namespace phi::service {

// What the supervisor exports of a group.
class GroupMetrics {
 public:
  // `page` outlives this.
  GroupMetrics(const MetricPage& page, int world_size) : page_(page), world_size_(world_size) {}

  void OnEpoch(uint64_t epoch) const;
  void OnServing(const RankGroup& group) const;
  void OnDown() const;
  void OnRestart(RestartLabel cause) const;
  // A few times a second.
  void OnTick(const RankGroup& group) const;

 private:
  const MetricPage& page_;
  const int world_size_;
};

// phi_build_info and phi_model_info.
void SetInfoMetrics(const RankSpec& spec, MetricPage* page);

}  // namespace phi::service
