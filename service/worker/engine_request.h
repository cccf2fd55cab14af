#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "service/api/steady_clock.h"
#include "shard/rank.h"
#include "shard/step_plan.h"

// One request as the engine sees it: token ids and numbers, without text, messages or connections.
namespace phi::service {

struct EngineRequest {
  uint64_t id = 0;  // unique in the process, not 0
  std::vector<uint32_t> prompt;
  uint32_t max_new_tokens = 0;      // >= 1; prompt and this fit the context
  bool bounded_by_context = false;  // max_new_tokens is what the context leaves
  uint32_t min_new_tokens = 0;
  uint32_t num_samples = 1;        // share one prefill; sample i draws with (seed, i)
  shard::SamplingParams sampling;  // mask_eos and sample_index are the scheduler's
  std::vector<uint32_t> stop_token_ids;
  bool ignore_eos = false;
  std::string caller;      // fairness is between callers: a token's identity or else the peer; any
                           // string, "" like another
  std::string cache_salt;  // the prefix cache shares blocks among equal salts only
  SteadyTime arrival;
  SteadyTime time_limit_at = SteadyTime::max();
  SteadyTime call_deadline =
      SteadyTime::max();  // the caller's; the engine stops a margin before it
};

// kStopString, kStopCondition: the router found a stop in a sample's text (StepLoop::EndSample).
enum class FinishReason : uint8_t {
  kEos,
  kStopToken,
  kMaxNewTokens,
  kContextLength,
  kTimeLimit,
  kStopString,
  kStopCondition
};

// Where a request stands, or stood when it ended.
enum class RequestStage : uint8_t { kQueued, kPrefill, kDecode };

// Moments of one request's life, over all its samples; those not reached are the epoch of the
// clock.
struct RequestTimes {
  SteadyTime arrival = {};
  SteadyTime admitted = {};  // left the queue
  SteadyTime first_token = {};
  SteadyTime previous_token = {};  // before `latest_token`
  SteadyTime latest_token = {};
  uint32_t cached_prompt_tokens = 0;  // known once admitted
};

// How a request ended: once, for every one that was submitted (I3).
struct RequestEnd {
  absl::Status status;                       // OK: it finished for `reason`
  FinishReason reason = FinishReason::kEos;  // of the sample that ended last
  RequestStage stage = RequestStage::kQueued;
  uint32_t prompt_tokens = 0;
  uint32_t cached_prompt_tokens = 0;  // of prompt_tokens: found in the prefix cache, not computed
  uint32_t generated_tokens = 0;      // of all samples, the tokens that ended them included
  uint32_t computed_tokens = 0;       // inputs that went through the model
  RequestTimes times;
  SteadyTime ended;
};

// Where a request's tokens go. Called by the step loop's thread, which must not wait: an
// implementation takes what it is given and returns.
class TokenSink {
 public:
  virtual ~TokenSink() = default;
  // One more token of one of the request's samples.
  virtual void OnToken(uint32_t sample, shard::SampledToken token, const RequestTimes& times) = 0;
  // That sample finished. Not called for samples that StepLoop::EndSample ended, nor where an error
  // ends the request.
  virtual void OnSampleEnd(uint32_t sample, FinishReason reason) = 0;
  // The last call, exactly once a request (I3): all samples ended, or an error ended them all.
  virtual void OnEnd(const RequestEnd& end) = 0;
};

}  // namespace phi::service
