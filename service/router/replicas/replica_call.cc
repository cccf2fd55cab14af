#include "service/router/replicas/replica_call.h"

#include <utility>

#include "service/api/error.h"
#include "service/api/grpc_status.h"

namespace phi::service {

ReplicaCall* ReplicaCall::Start(ReplicaLease lease,
                                phi::worker::v1::GenerateRequest request,
                                absl::Time deadline,
                                std::shared_ptr<Listener> listener) {
  auto* call = new ReplicaCall(std::move(lease), std::move(request), std::move(listener));
  call->context_.set_deadline(absl::ToChronoTime(deadline));
  call->lease_.stub().async()->Generate(&call->context_, &call->request_, call);
  call->StartRead(&call->response_);
  call->StartCall();
  return call;
}

ReplicaCall::ReplicaCall(ReplicaLease lease,
                         phi::worker::v1::GenerateRequest request,
                         std::shared_ptr<Listener> listener)
    : lease_(std::move(lease)), request_(std::move(request)), listener_(std::move(listener)) {}

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
