#pragma once

#include <grpcpp/support/server_callback.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "phi/worker/v1/worker.grpc.pb.h"
#include "service/worker/engine_request.h"
#include "service/worker/scheduler.h"
#include "service/worker/step_loop.h"

namespace phi::service {

// One Generate RPC: the way of its tokens from the step loop to the connection. At most one write
// is under way; tokens that come meanwhile wait here, bounded by n * max_new_tokens, and are joined
// into the next message of their sample, so a slow reader delays nobody. Finish is called exactly
// once, also after a cancellation.
//
// Owners: itself until gRPC is done with it, and the step loop until its OnEnd.
class TokenStreamCall final : public grpc::ServerBidiReactor<phi::worker::v1::GenerateRequest,
                                                             phi::worker::v1::GenerateResponse>,
                              public TokenSink,
                              public std::enable_shared_from_this<TokenStreamCall> {
 public:
  // The reactor that gRPC gets back; it waits for the start. `context` is the call's own, `loop`
  // outlives it.
  static TokenStreamCall* Start(grpc::CallbackServerContext* context,
                                const SchedulerLimits& limits,
                                StepLoop* loop);

  // TokenSink, on the step loop's thread.
  void OnToken(uint32_t sample, shard::SampledToken token, const RequestTimes& times) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  void OnSampleEnd(uint32_t sample, FinishReason reason) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnEnd(const RequestEnd& end) override ABSL_LOCKS_EXCLUDED(mutex_);

  // grpc::ServerBidiReactor, on gRPC's threads.
  void OnReadDone(bool ok) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnWriteDone(bool ok) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnCancel() override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnDone() override;

 private:
  struct Sample {
    std::deque<shard::SampledToken> pending;
    std::optional<FinishReason> reason;  // once it ended, until that is sent
    bool end_asked = false;              // by the router
  };

  TokenStreamCall(grpc::CallbackServerContext* context,
                  const SchedulerLimits& limits,
                  StepLoop* loop);

  // What the router sent; an error ends the call.
  absl::Status Take(const phi::worker::v1::GenerateRequest& request) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Submit(const phi::worker::v1::StartGeneration& start) ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether the sample is one, and the router asks for its end for the first time.
  bool NoteEndAsked(uint32_t sample) ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether the step loop knows it, which then ends it.
  bool started() ABSL_LOCKS_EXCLUDED(mutex_);
  // Starts the next write, or finishes, where it can.
  void Advance() ABSL_LOCKS_EXCLUDED(mutex_);
  // Of those with something to send, in turns; null: none has.
  Sample* NextToSend() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool HasToSend(const Sample& sample) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The last sample's end goes with the request's, which knows the times.
  bool MaySendReason() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return end_ || num_ended_ < samples_.size();
  }
  // Fills message_ with pending tokens; the end too where they were the last.
  void FillMessage(Sample& sample) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const uint64_t id_;
  const SteadyTime arrival_;
  const SteadyTime deadline_;
  const SchedulerLimits limits_;
  StepLoop* const loop_;
  std::shared_ptr<TokenStreamCall> self_;
  phi::worker::v1::GenerateRequest request_;  // gRPC's while a read is under way

  bool want_logprobs_ = false;  // this and the next: constant once submitted
  size_t num_samples_ = 0;

  absl::Mutex mutex_;
  bool started_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;       // maybe before the loop knew it
  std::vector<Sample> samples_ ABSL_GUARDED_BY(mutex_);  // n, once the start came
  size_t num_ended_ ABSL_GUARDED_BY(mutex_) = 0;         // by the step loop
  size_t turn_ ABSL_GUARDED_BY(mutex_) = 0;
  std::optional<RequestTimes> first_times_ ABSL_GUARDED_BY(mutex_);  // until they are sent
  bool has_token_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<RequestEnd> end_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;    // nobody reads any more
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;  // Finish was called
  phi::worker::v1::GenerateResponse
      message_;  // gRPC's while a write is under way, else the one thread's that set writing_
};

}  // namespace phi::service
