#pragma once

#include <grpcpp/support/server_callback.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "phi/worker/v1/worker.grpc.pb.h"
#include "service/worker/engine_request.h"
#include "service/worker/scheduler.h"
#include "service/worker/step_loop.h"

namespace phi::service {

// A request's message as the engine takes it, with every parameter checked again and defaults
// filled in. Its `id` and `call_deadline` stay unset. INVALID_ARGUMENT with the field's path;
// UNSUPPORTED_FIELD for the router's own fields.
absl::StatusOr<EngineRequest> ToEngineRequest(const phi::worker::v1::StartGeneration& message,
                                              const SchedulerLimits& limits,
                                              SteadyTime now);

// One Generate RPC: the way of its tokens from the step loop to the connection. At most one write
// is under way; tokens that come meanwhile wait here, bounded by max_new_tokens, and are joined
// into the next message, so a slow reader delays nobody. Finish is called exactly once, also after
// a cancellation.
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
  void OnSampleEnd(uint32_t /*sample*/, FinishReason /*reason*/) override {}
  void OnEnd(const RequestEnd& end) override ABSL_LOCKS_EXCLUDED(mutex_);

  // grpc::ServerBidiReactor, on gRPC's threads.
  void OnReadDone(bool ok) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnWriteDone(bool ok) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnCancel() override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnDone() override;

 private:
  using Response = phi::worker::v1::GenerateResponse;

  TokenStreamCall(grpc::CallbackServerContext* context,
                  const SchedulerLimits& limits,
                  StepLoop* loop);

  // What the router sent; an error ends the call.
  absl::Status Take(const phi::worker::v1::GenerateRequest& request) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Submit(const phi::worker::v1::StartGeneration& start) ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether the step loop knows it, which then ends it.
  bool started() ABSL_LOCKS_EXCLUDED(mutex_);
  // Starts the next write, or finishes, where it can.
  void Advance() ABSL_LOCKS_EXCLUDED(mutex_);
  // Fills message_ with pending tokens; the end too where they were the last.
  void FillMessage() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const uint64_t id_;
  const SteadyTime arrival_;
  const SteadyTime deadline_;
  const SchedulerLimits limits_;
  StepLoop* const loop_;
  std::shared_ptr<TokenStreamCall> self_;
  phi::worker::v1::GenerateRequest request_;  // gRPC's while a read is under way

  bool want_logprobs_ = false;  // constant once submitted

  absl::Mutex mutex_;
  bool started_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;  // maybe before the loop knew it
  std::deque<shard::SampledToken> pending_ ABSL_GUARDED_BY(mutex_);
  std::optional<RequestTimes> first_times_ ABSL_GUARDED_BY(mutex_);  // until they are sent
  std::optional<RequestEnd> end_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;    // nobody reads any more
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;  // Finish was called
  Response message_;  // gRPC's while a write is under way, else the one thread's that set writing_
};

}  // namespace phi::service
