#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/support/client_callback.h>

#include <cstdint>
#include <deque>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "phi/worker/v1/worker.grpc.pb.h"
#include "service/api/steady_clock.h"
#include "service/router/replicas/replica_pool.h"

namespace phi::service {

// One stream of tokens from one replica. Owns itself from Start until OnReplicaEnd has returned;
// until then the lease counts.
class ReplicaCall : public grpc::ClientBidiReactor<phi::worker::v1::GenerateRequest,
                                                   phi::worker::v1::GenerateResponse> {
 public:
  // Called by gRPC's threads, one call at a time, OnReplicaEnd last and exactly once.
  class Listener {
   public:
    virtual ~Listener() = default;
    // Nothing else arrives until this returns.
    virtual void OnReplicaMessage(const phi::worker::v1::GenerateResponse& message) = 0;
    // `status`: as FromGrpcStatus gives it. The ReplicaCall is gone once this has returned.
    virtual void OnReplicaEnd(const absl::Status& status) = 0;
  };

  // `listener` is kept until OnReplicaEnd has returned. The returned pointer is valid
  // as long.
  static ReplicaCall* Start(ReplicaLease lease,
                            phi::worker::v1::StartGeneration start,
                            SteadyTime deadline,
                            std::shared_ptr<Listener> listener);

  // Any thread, any number of times; OnReplicaEnd still comes.
  void Cancel() { context_.TryCancel(); }

  // Within OnReplicaMessage: for that reason the sample gets no more tokens; the others go on.
  // After the last one's end the replica ends the call by itself.
  void EndSample(uint32_t index, phi::v1::FinishReason reason) ABSL_LOCKS_EXCLUDED(mutex_);

  const ReplicaLease& lease() const { return lease_; }

 private:
  ReplicaCall(ReplicaLease lease,
              phi::worker::v1::StartGeneration start,
              std::shared_ptr<Listener> listener);
  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnDone(const grpc::Status& status) override;

  ReplicaLease lease_;
  phi::worker::v1::GenerateRequest request_;  // gRPC's while it is written
  phi::worker::v1::GenerateResponse response_;
  absl::Mutex mutex_;
  bool writing_ ABSL_GUARDED_BY(mutex_) = true;  // the start, at first
  std::deque<phi::worker::v1::EndSample> samples_to_end_ ABSL_GUARDED_BY(mutex_);
  grpc::ClientContext context_;
  std::shared_ptr<Listener> listener_;  // shared with the server's side of the same call
  bool from_old_epoch_ = false;
};

}  // namespace phi::service
