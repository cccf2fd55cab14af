#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

#include "absl/status/status.h"
#include "service/api/error.h"

// The closed sets of label values: an enum each, whose enumerators are indices into LabelValues().
//
//   page.Get(MetricId::kStepSeconds, {PhaseLabel::kDecode}).Observe(seconds);
namespace phi::service {

enum class MethodLabel : uint8_t {
  kGenerate,
  kGenerateStream,
  kTokenize,
  kDetokenize,
  kGetModelInfo,
  kOther,
};
// A step with any prompt token in it is kPrefill, whatever else is in it.
enum class PhaseLabel : uint8_t { kPrefill, kDecode };
// The public finish reasons in the order of phi.v1.FinishReason from EOS on, then the ends without
// one.
enum class FinishLabel : uint8_t {
  kEos,
  kMaxNewTokens,
  kContextLength,
  kStopString,
  kStopToken,
  kStopCondition,
  kTimeLimit,
  kCancelled,
  kError,
};
// Where a request stood when its caller went away.
enum class StageLabel : uint8_t { kQueued, kPrefill, kDecode };
// Tokens that were computed and reached nobody.
enum class WasteLabel : uint8_t { kCancelled, kDeadline, kPreempted, kError };
enum class CollectiveLabel : uint8_t { kAllReduce, kGather };
enum class MemoryLabel : uint8_t { kWeights, kKvCache, kActivations, kFree };
enum class KvBlockLabel : uint8_t { kFree, kCached, kOwned };
// Why a group ended that should not have.
enum class RestartLabel : uint8_t { kRankExit, kRankSignal, kStall, kStartup };
enum class StartupLabel : uint8_t { kSpawn, kLoad, kConnect, kWarmUp, kTotal };
enum class ReplicaStateLabel : uint8_t { kConnecting, kReady, kDraining, kLost, kRefused };
enum class RouterLimitLabel : uint8_t { kInflightRequests, kTokenizerQueue, kMessageBytes };
// Why a call was sent to another replica: what the first one answered, or that it did not.
enum class RetryLabel : uint8_t { kUnreachable, kReplicaLost, kDraining, kFull };
enum class SlowReaderLabel : uint8_t { kStalled, kBufferFull };
// ReasonLabel of a call that no reason of ours ended.
inline constexpr size_t kReasonNone = 0;

// The values that enum E indexes, in its order. Specialised in metric_labels.cc for every enum
// above.
template <typename E>
std::span<const std::string_view> LabelValues();

// gRPC's code names, "OK" .. "UNAUTHENTICATED", indexed by the code.
std::span<const std::string_view> CodeLabelValues();
// "none", then the names of ErrorReasons().
std::span<const std::string_view> ReasonLabelValues();

// An index into a label's values; what MetricPage::Get takes.
class LabelIndex {
 public:
  // NOLINTBEGIN(google-explicit-constructor): a label's index is what every one of these is.
  template <typename T>
  requires std::integral<T>
  constexpr LabelIndex(T index) : value_(static_cast<size_t>(index)) {}
  template <typename E>
  requires std::is_enum_v<E>
  constexpr LabelIndex(E label) : value_(static_cast<size_t>(label)) {}
  // After "none".
  constexpr LabelIndex(ErrorReason reason) : value_(static_cast<size_t>(reason) + 1) {}
  // NOLINTEND(google-explicit-constructor)

  constexpr size_t value() const { return value_; }

 private:
  size_t value_;
};

}  // namespace phi::service
