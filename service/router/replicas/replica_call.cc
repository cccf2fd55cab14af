#include "service/router/replicas/replica_call.h"

#include <utility>

#include "service/api/error.h"
#include "service/api/grpc_deadline.h"
#include "service/api/grpc_status.h"

namespace phi::service {

ReplicaCall* ReplicaCall::Start(ReplicaLease lease,
                                phi::worker::v1::StartGeneration start,
                                SteadyTime deadline,
                                std::shared_ptr<Listener> listener) {
  auto* call = new ReplicaCall(std::move(lease), std::move(start), std::move(listener));
  call->context_.set_deadline(ToGrpcDeadline(deadline));
  call->lease_.BeginCall(&call->context_);
  call->lease_.stub().async()->Generate(&call->context_, call);
  call->StartWrite(&call->request_);
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

void ReplicaCall::EndSample(uint32_t index, phi::v1::FinishReason reason) {
  phi::worker::v1::EndSample sample;
  sample.set_index(index);
  sample.set_finish_reason(reason);
  const absl::MutexLock lock(&mutex_);
  if (writing_) {
    samples_to_end_.push_back(std::move(sample));
    return;
  }
  writing_ = true;
  *request_.mutable_end_sample() = std::move(sample);
  StartWrite(&request_);
}

void ReplicaCall::OnWriteDone(bool ok) {
  const absl::MutexLock lock(&mutex_);
  writing_ = false;
  if (!ok || samples_to_end_.empty()) return;
  writing_ = true;
  *request_.mutable_end_sample() = std::move(samples_to_end_.front());
  samples_to_end_.pop_front();
  StartWrite(&request_);
}

void ReplicaCall::OnDone(const grpc::Status& status) {
  listener_->OnReplicaEnd(from_old_epoch_
                              ? MakeError(ErrorReason::kReplicaLost, "the replica started anew")
                              : FromGrpcStatus(status));
  lease_.EndCall(&context_);
  delete this;
}

}  // namespace phi::service
