#include "service/router/replicas/replica_call.h"

#include <utility>

#include "service/api/error.h"
#include "service/api/grpc_status.h"

namespace phi::service {

ReplicaCall* ReplicaCall::Start(ReplicaLease lease,
                                phi::worker::v1::StartGeneration start,
                                absl::Time deadline,
                                std::shared_ptr<Listener> listener) {
  auto* call = new ReplicaCall(std::move(lease), std::move(start), std::move(listener));
  call->context_.set_deadline(absl::ToChronoTime(deadline));
  call->lease_.stub().async()->Generate(&call->context_, call);
  call->StartWriteLast(&call->request_, grpc::WriteOptions());
  call->StartRead(&call->response_);
  call->StartCall();
  return call;
}

ReplicaCall::ReplicaCall(ReplicaLease lease,
                         phi::worker::v1::StartGeneration start,
                         std::shared_ptr<Listener> listener)
    : lease_(std::move(lease)), listener_(std::move(listener)) {
  *request_.mutable_start() = std::move(start);
}

void ReplicaCall::OnReadDone(bool ok) {
  if (!ok) return;                 // OnDone says why
  if (!lease_.IsCurrentEpoch()) {  // I5: nothing of an older epoch is delivered
    from_old_epoch_ = true;
    Cancel();
    return;
  }
  listener_->OnReplicaMessage(response_);
  StartRead(&response_);
}

void ReplicaCall::OnDone(const grpc::Status& status) {
  listener_->OnReplicaEnd(from_old_epoch_
                              ? MakeError(ErrorReason::kReplicaLost, "the replica started anew")
                              : FromGrpcStatus(status));
  delete this;
}

}  // namespace phi::service
