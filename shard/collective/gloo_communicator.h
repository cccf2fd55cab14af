#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "shard/collective/communicator.h"

namespace phi::shard {

struct GlooOptions {
  // Where the ranks of one epoch find each other: an empty directory that only they can write to,
  // on a local disk.
  std::string store_dir;
  // For all ranks to appear and connect.
  absl::Duration connect_timeout = absl::Minutes(2);
  // For one message of a collective: how long a peer may compute, or hang, before this rank gives
  // the group up.
  absl::Duration timeout = absl::Seconds(60);
};

// A communicator over TCP on 127.0.0.1 by Gloo: a full mesh, in which each collective is sends and
// receives of ours in Gloo's pinned buffers, because Gloo's own all-reduce picks its order of
// summation by message size (I1).
//
// Takes a few 32 KiB buffers a peer, whatever the message sizes (I6), and makes SIGPIPE ignored in
// the process: Gloo writes to sockets whose peer may be gone.
//
// Errors: INVALID_ARGUMENT for a rank outside 0 .. world_size - 1 or a world_size below 2 (see
// single_rank_communicator), DEADLINE_EXCEEDED naming the ranks that never appeared, UNAVAILABLE
// where connecting failed.
absl::StatusOr<std::unique_ptr<Communicator>> MakeGlooCommunicator(int rank,
                                                                   int world_size,
                                                                   const GlooOptions& options);

}  // namespace phi::shard
