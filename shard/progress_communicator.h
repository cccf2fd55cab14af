#pragma once

#include <memory>

#include "shard/collective/communicator.h"
#include "shard/rank_progress.h"

namespace phi::shard {

// `communicator`, with each collective written to `progress` as it is entered and left. `progress`
// outlives it.
std::unique_ptr<Communicator> MakeProgressCommunicator(std::unique_ptr<Communicator> communicator,
                                                       RankProgress* progress);

}  // namespace phi::shard
