#include "service/access/port_limits.h"

#include <grpcpp/resource_quota.h>
#include <sys/resource.h>

#include <algorithm>

#include "service/api/generation_parameters.h"

namespace phi::service {
namespace {

// Above what any proxy in front lets through: a call beyond it costs its whole connection, other
// calls on it included (gRPC's default is 8 KiB).
constexpr int kMaxMetadataBytes = 64 << 10;
// gRPC's default of 120 s lets half-open connections pile up.
constexpr int kHandshakeTimeoutMs = 10'000;
// Above the calls under way: status and health watchers, and calls about to be refused.
constexpr uint32_t kSpareStreams = 64;
constexpr int kReplicaKeepaliveMs = 20'000;
constexpr int kReplicaKeepaliveTimeoutMs = 10'000;

int Milliseconds(absl::Duration duration) {
  return static_cast<int>(absl::ToInt64Milliseconds(std::min(duration, absl::Hours(24))));
}

}  // namespace

PortLimits PublicPortLimits(absl::Duration max_time_limit) {
  return {.max_message_bytes = kMaxMessageBytes,
          .max_streams_per_connection = 128,
          .keepalive_time = absl::Seconds(60),
          .min_ping_interval = absl::Seconds(10),
          .longest_call = max_time_limit + absl::Seconds(5),
          .memory_bytes = size_t{256} << 20};
}

PortLimits WorkerPortLimits(uint32_t max_requests) {
  return {.max_message_bytes = kMaxMessageBytes,
          .max_streams_per_connection = max_requests + kSpareStreams,
          .keepalive_time = absl::Milliseconds(kReplicaKeepaliveMs),
          // Routers ask that often, and one that is refused its pings is lost.
          .min_ping_interval = absl::Milliseconds(kReplicaKeepaliveMs / 4),
          // A router's --max_time_limit is not known here.
          .longest_call = absl::InfiniteDuration(),
          .memory_bytes = size_t{256} << 20};
}

void LimitPort(const PortLimits& limits, grpc::ServerBuilder& builder) {
  // A compressed message may be a thousand times its size, and is unpacked before any limit is
  // looked at.
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
  builder.SetMaxReceiveMessageSize(static_cast<int>(limits.max_message_bytes));
  // gRPC takes in a message to its declared end before it looks at its size, whatever that is: this
  // is what bounds it. Whoever sends beyond it is cut off.
  grpc::ResourceQuota memory("port");
  memory.Resize(limits.memory_bytes);
  builder.SetResourceQuota(memory);

  const auto set = [&](const char* name, int value) { builder.AddChannelArgument(name, value); };
  set(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
  // One connection alone cannot fill the server (rapid reset, floods of calls).
  set(GRPC_ARG_MAX_CONCURRENT_STREAMS, static_cast<int>(limits.max_streams_per_connection));
  // Requests are small: receive windows that grow with the link's speed are memory for floods only.
  set(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  set(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeTimeoutMs);
  // An end that vanished without a word is found, and its calls are cancelled.
  set(GRPC_ARG_KEEPALIVE_TIME_MS, Milliseconds(limits.keepalive_time));
  set(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, Milliseconds(limits.keepalive_time / 2));
  set(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  set(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
      Milliseconds(limits.min_ping_interval));
  set(GRPC_ARG_MAX_CONNECTION_AGE_MS, Milliseconds(limits.max_connection_age));
  set(GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS, Milliseconds(limits.longest_call));
  // Two programs on one port would share its callers at random, without an error.
  set(GRPC_ARG_ALLOW_REUSEPORT, 0);
}

grpc::ChannelArguments ReplicaChannelArguments() {
  grpc::ChannelArguments args;
  // The router itself tries again, and a call's second try goes elsewhere.
  args.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  args.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  args.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1000);
  args.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
  args.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kReplicaKeepaliveMs);
  args.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kReplicaKeepaliveTimeoutMs);
  args.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  // A connection of its own: gRPC would share one between channels of equal address and arguments.
  args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return args;
}

void RaiseFileLimit() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  (void)setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace phi::service
