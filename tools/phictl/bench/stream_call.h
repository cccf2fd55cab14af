#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <memory>
#include <vector>

#include "phi/v1/generation.grpc.pb.h"
#include "tools/phictl/bench/load_result.h"
#include "tools/phictl/bench/workload.h"

namespace phi::phictl {

class LoadGenerator;

// One request's stream, read as it comes by gRPC's threads. Deletes itself at its end, after it has
// told the recorder and its owner.
class StreamCall final : public grpc::ClientReadReactor<phi::v1::GenerateStreamResponse> {
 public:
  StreamCall(LoadGenerator& owner, size_t lane, const PlannedRequest& planned, absl::Time due);

  // Once. `due` of the constructor is what latencies count from; what this takes is in them.
  void Start(phi::v1::TextGeneration::Stub& stub,
             std::unique_ptr<grpc::ClientContext> context,
             const std::vector<uint32_t>& prompt);
  // By any thread before the end.
  void Cancel();
  // By the owner at the end, before it forgets this call. The context holds the channel, and a
  // channel whose last holder is one of gRPC's own threads takes away the queue that it runs on.
  void ReleaseChannel() { context_.reset(); }

  void OnReadDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;

 private:
  LoadGenerator& owner_;
  const size_t lane_;
  const PlannedRequest planned_;
  std::unique_ptr<grpc::ClientContext> context_;
  phi::v1::GenerateRequest request_;
  phi::v1::GenerateStreamResponse message_;
  phi::v1::FinishReason finish_ = phi::v1::FINISH_REASON_UNSPECIFIED;
  std::atomic<bool> cancelled_ = false;
  Outcome outcome_;
};

}  // namespace phi::phictl
