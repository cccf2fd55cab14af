#pragma once

#include <grpcpp/server_builder.h>
#include <grpcpp/support/channel_arguments.h>

#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"

// Every argument that our gRPC ports and channels are made with, and why: what gRPC 1.51 leaves
// open by default, closed.
namespace phi::service {

struct PortLimits {
  size_t max_message_bytes = 0;
  uint32_t max_streams_per_connection = 0;
  // A quiet connection is asked that often whether its other end lives.
  absl::Duration keepalive_time;
  // The other end may ask so often.
  absl::Duration min_ping_interval;
  // A connection takes no new calls once it is so old. gRPC varies it by 10% either way, so that
  // connections made at once do not all end at once. Callers then spread anew over the servers
  // behind a name, and show their certificates again.
  absl::Duration max_connection_age = absl::Minutes(30);
  // What a call may take, at most: a connection that is closed for its age stays open that long.
  absl::Duration longest_call;
  // For what all connections of the port receive and send.
  size_t memory_bytes = 0;
};

// For calls from anywhere.
PortLimits PublicPortLimits(absl::Duration max_time_limit);

// For calls from routers: `max_requests` run or wait at most.
PortLimits WorkerPortLimits(uint32_t max_requests);

void LimitPort(const PortLimits& limits, grpc::ServerBuilder& builder);

// Of a router's channel to a replica.
grpc::ChannelArguments ReplicaChannelArguments();

// Raises the limit of open files as far as this process may: a listener that ran out of them never
// accepts again in gRPC 1.51.
void RaiseFileLimit();

}  // namespace phi::service
