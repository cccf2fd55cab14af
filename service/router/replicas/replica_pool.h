#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/security/credentials.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <unordered_set>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/random/random.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "phi/v1/generation.pb.h"
#include "phi/worker/v1/worker.grpc.pb.h"
#include "service/api/steady_clock.h"
#include "service/router/replicas/name_watch.h"
#include "service/router/replicas/replica_list.h"
#include "service/router/replicas/replica_load.h"
#include "service/telemetry/metric_page.h"

namespace phi::service {

struct Replica;
class ReplicaPool;
class ReplicaWatch;

// The right to send one call to one replica; its tokens count as outstanding there until it goes.
class ReplicaLease {
 public:
  ReplicaLease(ReplicaPool* pool, std::shared_ptr<Replica> replica, const RequestCost& cost);
  ~ReplicaLease();
  ReplicaLease(ReplicaLease&&) = default;
  ReplicaLease& operator=(ReplicaLease&&) = delete;

  phi::worker::v1::Worker::Stub& stub() const;
  const std::string& address() const;
  const Replica* replica() const { return replica_.get(); }
  // Whether the replica has not started anew since.
  bool IsCurrentEpoch() const;
  // The call that it is for, which is cancelled if the pool goes before EndCall.
  void BeginCall(grpc::ClientContext* call) const;
  void EndCall(grpc::ClientContext* call) const;

 private:
  ReplicaPool* pool_;                 // waits for every lease before it goes
  std::shared_ptr<Replica> replica_;  // shared with the pool, which may drop the replica first
  uint64_t cost_tokens_ = 0;
  uint64_t epoch_ = 0;
};

// The replicas: found by a fixed list or by name, each watched over one WatchStatus stream that is
// opened again with jittered backoff. A replica of another fingerprint gets no calls; what comes
// from an older epoch is dropped. Any thread may call.
class ReplicaPool {
 public:
  struct Options {
    ReplicaList replicas;
    std::string fingerprint;                                // of the router's own model directory
    std::shared_ptr<grpc::ChannelCredentials> credentials;  // shared by the replicas' channels
    MetricPage* metrics = nullptr;
    // Called when `any replica is ready` changes, one call at a time.
    std::function<void(bool)> on_ready_change;
  };

  static std::unique_ptr<ReplicaPool> Start(Options options);
  // Ends all watches and calls, and waits for their ends and for those of all leases: a channel
  // must not go on gRPC's own threads, which it would wait for.
  ~ReplicaPool();
  ReplicaPool(const ReplicaPool&) = delete;
  ReplicaPool& operator=(const ReplicaPool&) = delete;

  std::vector<ReplicaLoad> Loads() const ABSL_LOCKS_EXCLUDED(mutex_);

  // The best replica for the request (ChooseReplica); NO_READY_REPLICA when there is none but
  // `excluded`, which may be null.
  absl::StatusOr<ReplicaLease> Acquire(const RequestCost& cost, const Replica* excluded)
      ABSL_LOCKS_EXCLUDED(mutex_);

  bool AnyReady() const ABSL_LOCKS_EXCLUDED(mutex_);

  // For GetModelInfo.
  struct Summary {
    std::vector<phi::v1::ReplicaInfo> replicas;
    std::string dtype;  // of the ready ones; empty while there is none
  };
  Summary Describe() const ABSL_LOCKS_EXCLUDED(mutex_);
  // The least of the ready ones; 0 while there is none.
  uint32_t context_tokens() const { return context_tokens_.load(std::memory_order_relaxed); }

 private:
  friend class ReplicaLease;
  friend class ReplicaWatch;

  explicit ReplicaPool(Options options);
  void Maintain();
  // By address, the name it was found behind; empty for one that was given as it is.
  using Addresses = NameWatch::Addresses;
  // All that is behind names now; the fixed addresses are there besides.
  void OnFound(const Addresses& found) ABSL_LOCKS_EXCLUDED(mutex_);
  void SetAddresses(const Addresses& addresses) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AddReplica(const std::string& address, const std::string& host)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RemoveReplica(size_t index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StartDueWatches(SteadyTime now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnWatchStatus(Replica& replica, const phi::worker::v1::ReplicaStatus& status)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void OnWatchEnd(Replica& replica) ABSL_LOCKS_EXCLUDED(mutex_);
  void SetState(Replica& replica, ReplicaStateLabel state) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::vector<ReplicaLoad> LoadsLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Tells on_ready_change what changed since the last time.
  void PublishReadiness() ABSL_LOCKS_EXCLUDED(mutex_, publish_mutex_);
  // Counts watches and leases.
  void AddUser() ABSL_LOCKS_EXCLUDED(users_mutex_);
  void RemoveUser() ABSL_LOCKS_EXCLUDED(users_mutex_);
  bool NoUsers() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(users_mutex_) { return num_users_ == 0; }

  const Options options_;
  std::atomic<uint32_t> context_tokens_ = 0;
  mutable absl::Mutex mutex_;
  std::vector<std::shared_ptr<Replica>> replicas_ ABSL_GUARDED_BY(mutex_);
  size_t rotation_ ABSL_GUARDED_BY(mutex_) = 0;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  bool wake_ ABSL_GUARDED_BY(mutex_) = false;  // a watch ended, an address came: look at once
  SteadyCondition changed_;                    // ending_, wake_
  absl::BitGen random_ ABSL_GUARDED_BY(mutex_);
  absl::Mutex users_mutex_;
  size_t num_users_ ABSL_GUARDED_BY(users_mutex_) = 0;
  std::unordered_set<grpc::ClientContext*> calls_ ABSL_GUARDED_BY(users_mutex_);  // the leases'
  absl::Mutex publish_mutex_;
  bool published_ready_ ABSL_GUARDED_BY(publish_mutex_) = false;
  std::jthread maintenance_;
  std::optional<NameWatch> names_;
};

}  // namespace phi::service
