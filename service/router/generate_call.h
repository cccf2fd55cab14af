#pragma once

#include <grpcpp/support/byte_buffer.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "phi/v1/generation.pb.h"
#include "service/access/access_control.h"
#include "service/api/steady_clock.h"
#include "service/router/calls/active_calls.h"
#include "service/router/calls/answer_set.h"
#include "service/router/calls/call_record.h"
#include "service/router/replicas/replica_call.h"
#include "service/router/router_context.h"

namespace phi::service {

// Where a call's answer goes: the server's side of a unary or of a streaming RPC.
class AnswerSink {
 public:
  virtual ~AnswerSink() = default;
  // Whether the answer goes out as it grows; otherwise Write is never called.
  virtual bool streams() const = 0;
  // Once, before anything else: becomes the metadata `phi-request-id`.
  virtual void SetRequestId(const std::string& request_id) = 0;
  // One at a time: GenerateCall::OnWriteDone comes before the next one.
  virtual void Write(const phi::v1::GenerateStreamResponse& message) = 0;
  // Exactly once, the last call: `answers` and then the status; of a stream the last message, if
  // any, else every sample's whole answer by index, if the status is OK. `tokens_emitted`, if any,
  // becomes the trailer `phi-tokens-emitted`. A Write may still be under way only if `cut`: then
  // the stream is broken off.
  struct End {
    absl::Status status;
    std::vector<phi::v1::GenerateStreamResponse> answers = {};
    std::optional<uint32_t> tokens_emitted = std::nullopt;
    bool cut = false;
  };
  virtual void Finish(const End& end) = 0;
};

// One Generate or GenerateStream call's life: parse, check, admit, tokenize, dispatch (twice at
// most), relay, end once (I3).
//
// Events come from gRPC's threads, the tokenizer's and the sweeper's, and take turns on one mutex;
// none waits for anything. gRPC runs reactions on threads of its own, never within the call that
// caused them, so operations are started under the mutex. Shared by the server's reactor, the
// replica call under way and the tokenizer's task; whoever is last lets go.
class GenerateCall final : public ReplicaCall::Listener,
                           public ActiveCalls::Call,
                           public std::enable_shared_from_this<GenerateCall> {
 public:
  struct Origin {
    MethodLabel method = MethodLabel::kGenerate;
    SteadyTime deadline = SteadyTime::max();
    std::string caller;      // for fairness: its token's name, or else its address without the port
    std::string cache_salt;  // prefixes are shared among equal ones only: the token's name
    absl::StatusOr<CallerGrant> grant = CallerGrant();  // or why the call is refused
  };

  // `sink` lives until its Finish has been called.
  GenerateCall(RouterContext& context, AnswerSink* sink, Origin origin);

  // The first event, once.
  void Start(const grpc::ByteBuffer& bytes);
  void OnWriteDone(bool ok);
  // The caller went away, or its deadline passed.
  void OnCancel();

  void OnReplicaMessage(const phi::worker::v1::GenerateResponse& message) override;
  void OnReplicaEnd(const absl::Status& status) override;
  void Sweep(SteadyTime now) override;
  void Abort(const absl::Status& status) override;

 private:
  class OwnTime;

  absl::Status CheckAndAdmit(const grpc::ByteBuffer& bytes, const ActiveCalls::Counts& before)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status StartTokenizing() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Tokenize() ABSL_LOCKS_EXCLUDED(mutex_);
  struct Prompt {
    std::vector<uint32_t> ids;
    std::string text;  // where it is known or needed
  };
  absl::StatusOr<Prompt> ReadPrompt() const;
  absl::Status OnPrompt(Prompt prompt) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Dispatch(const Replica* excluded) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // `now`: before the time limit, the rest of which goes with the request.
  phi::worker::v1::StartGeneration RequestForReplica(SteadyTime now) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status ReplicaFailure(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  SteadyTime TimeLimitAt() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Ends the call: what is pending still goes out, then the status.
  void EndCall(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Ends it at once, whatever is pending.
  void CutOff(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WriteOrFinish() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FinishWithWhatIsPending() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FinishSink(const AnswerSink::End& end) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StopUpstream() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AddHeader(phi::v1::GenerateStreamResponse& first) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  phi::v1::Summary MakeSummary() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool over() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return finished_ || ending_.has_value();
  }

  RouterContext& context_;
  Origin origin_;  // constant but for the grant, which is guarded by mutex_
  std::stop_source tokenizing_;

  absl::Mutex mutex_;
  AnswerSink* const sink_ ABSL_PT_GUARDED_BY(mutex_);
  CallRecord record_ ABSL_GUARDED_BY(mutex_);
  // Set by Start and constant from then on; the tokenizer's task reads them without the mutex.
  phi::v1::GenerateRequest request_;
  GenerationParameters parameters_;
  uint64_t seed_ = 0;

  std::vector<uint32_t> prompt_ ABSL_GUARDED_BY(mutex_);
  RequestCost cost_ ABSL_GUARDED_BY(mutex_);
  bool bounded_by_context_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<AnswerSet> answers_ ABSL_GUARDED_BY(mutex_);  // once the prompt is known
  ReplicaCall* replica_call_ ABSL_GUARDED_BY(mutex_) = nullptr;
  // All samples have ended, and the replica knows or has just been told.
  bool replica_ends_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<RetryLabel> retry_ ABSL_GUARDED_BY(mutex_);  // why it was sent a second time
  phi::worker::v1::Summary replica_summary_ ABSL_GUARDED_BY(mutex_);

  bool header_sent_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<SteadyTime> writing_since_ ABSL_GUARDED_BY(mutex_);  // the outstanding write
  std::optional<absl::Status> ending_ ABSL_GUARDED_BY(mutex_);  // how it ends once all is written
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;               // the sink is gone
};

}  // namespace phi::service
