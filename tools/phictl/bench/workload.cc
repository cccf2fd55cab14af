#include "tools/phictl/bench/workload.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "kernels/base/status_macros.h"

namespace phi::phictl {
namespace {

constexpr double kLengthMax = 1 << 20;

absl::StatusOr<std::pair<double, double>> ReadTwo(absl::string_view text, char between) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(text, absl::MaxSplits(between, 1));
  std::pair<double, double> numbers;
  if (!absl::SimpleAtod(parts.first, &numbers.first) ||
      !absl::SimpleAtod(parts.second, &numbers.second)) {
    return absl::InvalidArgumentError("two numbers are needed");
  }
  return numbers;
}

bool IsLength(double value) { return value >= 1 && value <= kLengthMax; }

// SplitMix64: starting one is free, unlike the Mersenne twister, and each prompt starts its own.
class PromptRandom {
 public:
  explicit PromptRandom(uint64_t seed) : state_(seed) {}
  uint32_t Below(uint32_t bound) {
    state_ += 0x9e3779b97f4a7c15;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return static_cast<uint32_t>((z ^ (z >> 31)) % bound);
  }

 private:
  uint64_t state_;
};

}  // namespace

absl::StatusOr<LengthDistribution> LengthDistribution::Parse(std::string_view text) {
  const absl::Status wrong = absl::InvalidArgumentError(
      "a length is N, uniform:LEAST-GREATEST or lognormal:MEAN,SIGMA, in tokens");
  LengthDistribution result;
  const absl::string_view whole(text.data(), text.size());
  if (absl::SimpleAtod(whole, &result.first_)) {
    if (!IsLength(result.first_)) return wrong;
    return result;
  }
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(whole, absl::MaxSplits(':', 1));
  const auto numbers = ReadTwo(parts.second, parts.first == "uniform" ? '-' : ',');
  if (!numbers.ok() || !IsLength(numbers->first)) return wrong;
  if (parts.first == "uniform" && IsLength(numbers->second) && numbers->first <= numbers->second) {
    result.kind_ = Kind::kUniform;
    result.first_ = numbers->first;
    result.second_ = numbers->second;
    return result;
  }
  if (parts.first == "lognormal" && numbers->second > 0 && numbers->second <= 5) {
    // The mean of a lognormal variable is exp(mu + sigma^2 / 2).
    result.kind_ = Kind::kLognormal;
    result.first_ = std::log(numbers->first) - numbers->second * numbers->second / 2;
    result.second_ = numbers->second;
    return result;
  }
  return wrong;
}

uint32_t LengthDistribution::Draw(std::mt19937_64& random) const {
  double length = first_;
  if (kind_ == Kind::kUniform) {
    length = std::uniform_int_distribution<uint32_t>(static_cast<uint32_t>(first_),
                                                     static_cast<uint32_t>(second_))(random);
  } else if (kind_ == Kind::kLognormal) {
    length = std::round(std::lognormal_distribution<double>(first_, second_)(random));
  }
  return static_cast<uint32_t>(std::clamp(length, 1.0, kLengthMax));
}

Workload::Workload(WorkloadOptions options)
    : options_(std::move(options)), random_(options_.seed) {}

std::optional<PlannedRequest> Workload::Next() {
  if (options_.num_requests.has_value() && num_planned_ >= *options_.num_requests) return {};
  PlannedRequest request;
  request.index = num_planned_;
  if (!options_.trace.empty()) {
    if (num_planned_ >= options_.trace.size()) return {};
    const TraceEntry& entry = options_.trace[num_planned_];
    request.offset = entry.offset;
    request.prompt_tokens = entry.prompt_tokens;
    request.output_tokens = entry.output_tokens;
  } else {
    if (options_.rate > 0) {
      // Exponential gaps make a Poisson process.
      const double gap = options_.arrivals == Arrivals::kPoisson
                             ? std::exponential_distribution<double>(options_.rate)(random_)
                             : 1 / options_.rate;
      request.offset = last_offset_ + absl::Seconds(gap);
    }
    request.prompt_tokens = options_.prompt.Draw(random_);
    request.output_tokens = options_.output.Draw(random_);
  }
  if (request.offset >= options_.duration) return {};
  request.output_tokens = std::min(request.output_tokens, options_.context_tokens - 1);
  request.prompt_tokens = std::min(options_.shared_prefix + request.prompt_tokens,
                                   options_.context_tokens - request.output_tokens);
  if (options_.cancel_share > 0 && std::bernoulli_distribution(options_.cancel_share)(random_)) {
    request.cancel_after_tokens =
        std::uniform_int_distribution<uint32_t>(0, request.output_tokens - 1)(random_);
  }
  last_offset_ = request.offset;
  ++num_planned_;
  return request;
}

std::vector<uint32_t> Workload::PromptTokens(const PlannedRequest& request) const {
  std::vector<uint32_t> tokens;
  tokens.reserve(request.prompt_tokens);
  PromptRandom prefix(options_.seed);
  PromptRandom own(options_.seed ^ (0xbf58476d1ce4e5b9 * (request.index + 1)));
  while (tokens.size() < request.prompt_tokens) {
    PromptRandom& random = tokens.size() < options_.shared_prefix ? prefix : own;
    tokens.push_back(random.Below(options_.vocabulary_tokens));
  }
  return tokens;
}

}  // namespace phi::phictl
