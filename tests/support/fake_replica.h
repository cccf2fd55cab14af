#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "phi/worker/v1/worker.grpc.pb.h"

namespace phi::tests {

// A replica in this process that answers from a script: phi.worker.v1.Worker over real gRPC on a
// port of its own, so that the router is tested without a model. Deterministic but for time. One
// thread paces all calls, so that there may be thousands.
class FakeReplica {
 public:
  // How one Generate call is answered.
  struct Script {
    std::vector<uint32_t> tokens;  // sent in order, at most max_new_tokens of them
    // Of sample i, where n > 1; without an entry: `tokens`. Samples take turns, a message each.
    std::vector<std::vector<uint32_t>> samples = {};
    size_t tokens_per_message = 1;
    std::chrono::microseconds delay_before_first{0};
    std::chrono::microseconds delay_per_message{0};
    // The end, once all tokens are sent. With an error status there is no finish reason.
    phi::v1::FinishReason finish = phi::v1::FINISH_REASON_MAX_NEW_TOKENS;
    grpc::Status status;
    bool hang_at_end = false;  // neither: waits until the router ends all samples or cancels
    bool deaf = false;         // takes no notice of a sample that the router ends
  };
  using ScriptFor = std::function<Script(const phi::worker::v1::StartGeneration&)>;

  // What WatchStatus pushes at first: ready, with room. `fingerprint` has to be the model's for the
  // router to take it.
  static phi::worker::v1::ReplicaStatus ReadyStatus(const std::string& fingerprint);

  // `port`: 0 picks a free one; another is for coming back at the same place.
  FakeReplica(phi::worker::v1::ReplicaStatus status, ScriptFor script_for, int port = 0);
  // Breaks off all calls (UNAVAILABLE) and refuses connections from then on, as a killed process
  // does.
  ~FakeReplica();
  FakeReplica(const FakeReplica&) = delete;
  FakeReplica& operator=(const FakeReplica&) = delete;

  int port() const;
  std::string address() const;

  // Pushes another status to every watching router.
  void SetStatus(const phi::worker::v1::ReplicaStatus& status);

  // All that arrived so far, in order.
  std::vector<phi::worker::v1::StartGeneration> requests() const;
  // Samples that the router ended.
  int num_samples_ended() const;
  // Calls that the router cancelled, and calls under way.
  int num_cancelled() const;
  int num_active() const;
  // The deadline of the call that came last.
  std::chrono::system_clock::time_point last_deadline() const;

 private:
  class Call;
  class Service;
  bool Listen(int port);
  std::unique_ptr<Service> service_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
};

}  // namespace phi::tests
