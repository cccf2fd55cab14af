#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

// What a load consists of, as plain values: when each request is due, how long its prompt and its
// answer are. No clock and no socket; the same options give the same load.
namespace phi::phictl {

// Lengths in tokens.
class LengthDistribution {
 public:
  // "128", "uniform:16-256", or "lognormal:MEAN,SIGMA" with the mean in tokens and the standard
  // deviation of the logarithm, as in "lognormal:220,0.8".
  static absl::StatusOr<LengthDistribution> Parse(std::string_view text);

  // At least 1; not above 2^20.
  uint32_t Draw(std::mt19937_64& random) const;

 private:
  enum class Kind : uint8_t { kFixed, kUniform, kLognormal };
  Kind kind_ = Kind::kFixed;
  double first_ = 1;   // the length; the least; the logarithm's mean
  double second_ = 0;  // nothing; the greatest; the logarithm's standard deviation
};

struct TraceEntry {
  absl::Duration offset;  // from the load's start
  uint32_t prompt_tokens = 0;
  uint32_t output_tokens = 0;
  bool operator==(const TraceEntry&) const = default;
};

// A trace: a line a request, either all "SECONDS,PROMPT_TOKENS,OUTPUT_TOKENS" or all
// {"offset": SECONDS, "prompt_tokens": N, "output_tokens": N}, offsets not falling. A first line of
// names, empty lines and lines that begin with # are skipped. Errors name the line.
absl::StatusOr<std::vector<TraceEntry>> ParseTrace(std::string_view text);

enum class Arrivals : uint8_t { kPoisson, kUniform };

struct WorkloadOptions {
  // One of the first two, or neither for a load without a schedule (closed loop).
  double rate = 0;  // requests a second
  std::vector<TraceEntry> trace;
  Arrivals arrivals = Arrivals::kPoisson;
  LengthDistribution prompt;
  LengthDistribution output;
  uint32_t shared_prefix = 0;  // tokens in front of every prompt, the same in all
  double cancel_share = 0;     // of the requests, cancelled after some of their tokens
  uint64_t seed = 0;
  std::optional<uint64_t> num_requests;
  absl::Duration duration = absl::InfiniteDuration();
  uint32_t context_tokens = 0;     // prompt and output are cut to fit it together
  uint32_t vocabulary_tokens = 0;  // prompts are random ids below it
};

struct PlannedRequest {
  uint64_t index = 0;
  absl::Duration offset;  // from the load's start; zero without a schedule
  uint32_t prompt_tokens = 0;
  uint32_t output_tokens = 0;
  std::optional<uint32_t> cancel_after_tokens;
};

class Workload {
 public:
  explicit Workload(WorkloadOptions options);

  // In order of their offsets; nothing once the load is over.
  std::optional<PlannedRequest> Next();
  // The ids of a request's prompt; other threads may ask as well.
  std::vector<uint32_t> PromptTokens(const PlannedRequest& request) const;

  const WorkloadOptions& options() const { return options_; }

 private:
  const WorkloadOptions options_;
  std::mt19937_64 random_;
  uint64_t num_planned_ = 0;
  absl::Duration last_offset_;
};

}  // namespace phi::phictl
