#pragma once

#include <memory>

#include "shard/collective/communicator.h"

namespace phi::shard {

// The group of one rank: its sums are its own values. Collectives are counted like any other's.
std::unique_ptr<Communicator> MakeSingleRankCommunicator();

}  // namespace phi::shard
