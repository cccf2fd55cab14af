#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "phi/v1/generation.grpc.pb.h"
#include "service/api/steady_clock.h"
#include "tools/phictl/bench/load_result.h"
#include "tools/phictl/bench/workload.h"
#include "tools/phictl/client.h"

namespace phi::phictl {

class StreamCall;

// Sends a workload's requests and hands what comes back to a recorder. One thread sends; gRPC's own
// threads read the streams, so that thousands of them need no thread each.
class LoadGenerator {
 public:
  struct Options {
    // 0: each request is sent when it is due, whatever is still unanswered (open loop). Otherwise
    // so many are always under way, the next one sent when one ends (closed loop).
    uint32_t concurrency = 0;
    uint32_t max_inflight = 1024;  // in the open loop, one more is recorded as kSaturated
    absl::Time start;              // of LoadNow(): what the workload's offsets count from
    absl::Time end;                // nothing is sent from then on
  };
  // Called by Run's thread about ten times a second.
  using Tick = std::function<void()>;

  // `connection`, `workload` and `recorder` outlive this.
  LoadGenerator(const Connection& connection,
                Options options,
                Workload& workload,
                LoadRecorder& recorder);
  ~LoadGenerator();
  LoadGenerator(const LoadGenerator&) = delete;
  LoadGenerator& operator=(const LoadGenerator&) = delete;

  // How many connections carry so many streams: a server takes 128 on one, and more would wait
  // within the client, unseen.
  static size_t NumLanes(uint32_t max_streams);
  // Opens all connections, so that the load does not pay for it. False when one is not there in
  // `timeout`.
  bool ConnectAll(absl::Duration timeout);
  // Returns when the load is over and every stream has ended. Once `interrupted` is set nothing
  // more is sent and what is under way is cancelled.
  void Run(const std::atomic<bool>& interrupted, const Tick& tick);

 private:
  friend class StreamCall;
  struct Lane {
    std::shared_ptr<grpc::Channel> channel;
    std::unique_ptr<phi::v1::TextGeneration::Stub> stub;
    size_t inflight = 0;
  };

  void RunOpen(const std::atomic<bool>& interrupted, const Tick& tick);
  void RunClosed(const std::atomic<bool>& interrupted, const Tick& tick);
  void Launch(const PlannedRequest& planned, absl::Time due) ABSL_LOCKS_EXCLUDED(mutex_);
  void OnCallEnd(StreamCall* call, size_t lane) ABSL_LOCKS_EXCLUDED(mutex_);
  void AwaitAll(const std::atomic<bool>& interrupted, const Tick& tick) ABSL_LOCKS_EXCLUDED(mutex_);

  const Connection& connection_;
  const Options options_;
  Workload& workload_;
  LoadRecorder& recorder_;
  absl::Mutex mutex_;
  service::SteadyCondition ended_;  // a stream; waited for with mutex_
  std::vector<Lane> lanes_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_set<StreamCall*> live_ ABSL_GUARDED_BY(mutex_);  // each deletes itself at its end
};

}  // namespace phi::phictl
