#include "service/router/replicas/replica_watch.h"

#include <utility>

#include "service/router/replicas/replica_pool.h"

namespace phi::service {

ReplicaWatch* ReplicaWatch::Start(ReplicaPool* pool, std::shared_ptr<Replica> replica) {
  auto* watch = new ReplicaWatch(pool, std::move(replica));
  watch->replica_->stub->async()->WatchStatus(&watch->context_, &watch->request_, watch);
  watch->StartRead(&watch->status_);
  watch->StartCall();
  return watch;
}

ReplicaWatch::ReplicaWatch(ReplicaPool* pool, std::shared_ptr<Replica> replica)
    : pool_(pool), replica_(std::move(replica)) {}

void ReplicaWatch::OnReadDone(bool ok) {
  if (!ok) return;
  pool_->OnWatchStatus(*replica_, status_);
  StartRead(&status_);
}

void ReplicaWatch::OnDone(const grpc::Status& /*status*/) {
  ReplicaPool* const pool = pool_;
  pool->OnWatchEnd(*replica_);
  delete this;
  pool->RemoveUser();  // last: the pool may be gone right after
}

}  // namespace phi::service
