#pragma once

#include <memory>

#include "service/telemetry/metric_page.h"
#include "service/worker/group/group_page.h"
#include "shard/collective/communicator.h"
#include "shard/rank.h"

// What shard computes, measured: shard itself knows no metrics.
namespace phi::service {

// `communicator`, with each collective's time in phi_collective_seconds and failures in
// phi_collective_errors_total. `page` outlives it.
std::unique_ptr<shard::Communicator> MakeMeasuredCommunicator(
    std::unique_ptr<shard::Communicator> communicator, const MetricPage& page);

// `rank`, with the totals of its collectives by rank after each step. `page` and `slot` outlive it.
std::unique_ptr<shard::Rank> MakeMeasuredRank(std::unique_ptr<shard::Rank> rank,
                                              int rank_index,
                                              const MetricPage& page,
                                              RankSlot* slot);

}  // namespace phi::service
