#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/support/client_callback.h>

#include <memory>

#include "phi/worker/v1/worker.grpc.pb.h"
#include "service/router/replicas/replica.h"

namespace phi::service {

class ReplicaPool;

// One WatchStatus stream. Owns itself from Start until the pool has heard of its end.
class ReplicaWatch : public grpc::ClientReadReactor<phi::worker::v1::ReplicaStatus> {
 public:
  static ReplicaWatch* Start(ReplicaPool* pool, std::shared_ptr<Replica> replica);
  void Cancel() { context_.TryCancel(); }

 private:
  ReplicaWatch(ReplicaPool* pool, std::shared_ptr<Replica> replica);
  void OnReadDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;

  ReplicaPool* const pool_;  // waits for the end of every watch before it goes
  std::shared_ptr<Replica> replica_;
  grpc::ClientContext context_;
  const phi::worker::v1::WatchStatusRequest request_;
  phi::worker::v1::ReplicaStatus status_;
};

}  // namespace phi::service
