#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "phi/worker/v1/worker.grpc.pb.h"
#include "service/api/steady_clock.h"
#include "service/telemetry/metric_page.h"

namespace phi::service {

class ReplicaWatch;

inline constexpr size_t kNumReplicaStates = static_cast<size_t>(ReplicaStateLabel::kRefused) + 1;

// One replica as the pool keeps it. Shared by the pool and by the leases of calls under way, which
// may outlive its place in the pool. What is not atomic or const is guarded by the pool's mutex.
struct Replica {
  std::string address;                                  // const
  std::unique_ptr<phi::worker::v1::Worker::Stub> stub;  // const; owns the channel
  std::atomic<uint64_t> outstanding_tokens = 0;         // of this router's calls under way
  std::atomic<uint32_t> outstanding_requests = 0;       // likewise
  // Counts the epochs seen from here. The replica's own number starts again with its supervisor;
  // this one never does.
  std::atomic<uint64_t> incarnation = 0;

  ReplicaStateLabel state = ReplicaStateLabel::kConnecting;
  phi::worker::v1::ReplicaStatus status;  // the last one
  ReplicaWatch* watch = nullptr;          // the open stream, if any
  SteadyTime last_heard;                  // from that stream
  SteadyTime next_watch = SteadyTime::min();
  int failures = 0;  // watches that ended without a status, in a row
  bool removed = false;
  size_t metric_slot = 0;
  std::array<MetricPage::Series, kNumReplicaStates> state_series;
};

}  // namespace phi::service
