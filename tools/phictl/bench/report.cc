#include "tools/phictl/bench/report.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"

namespace phi::phictl {
namespace {

using nlohmann::ordered_json;

double Milliseconds(absl::Duration duration) { return absl::ToDoubleMilliseconds(duration); }

double Percent(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0 : 100 * static_cast<double>(part) / static_cast<double>(whole);
}

std::string QuantileLine(const char* name, const LatencyHistogram& histogram) {
  if (histogram.count() == 0) return absl::StrFormat("%-12s %9s\n", name, "none");
  return absl::StrFormat("%-12s %9.2f %9.2f %9.2f %9.2f %9.2f\n",
                         name,
                         Milliseconds(histogram.Quantile(0.5)),
                         Milliseconds(histogram.Quantile(0.9)),
                         Milliseconds(histogram.Quantile(0.99)),
                         Milliseconds(histogram.max()),
                         Milliseconds(histogram.Mean()));
}

ordered_json QuantilesJson(const LatencyHistogram& histogram) {
  return {{"count", histogram.count()},
          {"p50_ms", Milliseconds(histogram.Quantile(0.5))},
          {"p90_ms", Milliseconds(histogram.Quantile(0.9))},
          {"p99_ms", Milliseconds(histogram.Quantile(0.99))},
          {"max_ms", Milliseconds(histogram.max())},
          {"mean_ms", Milliseconds(histogram.Mean())}};
}

ordered_json FailuresJson(const LoadResult& result) {
  ordered_json list = ordered_json::array();
  for (const auto& [key, failures] : result.failures) {
    list.push_back({{"code", key.first},
                    {"reason", key.second},
                    {"count", failures.count},
                    {"time", QuantilesJson(failures.time)}});
  }
  return list;
}

ordered_json TimelineJson(const Timeline& timeline) {
  ordered_json list = ordered_json::array();
  for (const Interval& interval : timeline.intervals()) {
    list.push_back({{"tokens", interval.num_tokens},
                    {"answered", interval.num_answered},
                    {"failed", interval.num_failed},
                    {"first_token_p50_ms", Milliseconds(interval.first_token.Quantile(0.5))},
                    {"first_token_max_ms", Milliseconds(interval.first_token.max())}});
  }
  return {{"interval_ms", Milliseconds(timeline.interval())}, {"intervals", list}};
}

}  // namespace

std::string TextReport(const LoadWords& words, const LoadResult& result) {
  std::string text = absl::StrFormat("load         %s\n", words.load);
  text += absl::StrFormat(
      "requests     %d in %.1f s: %d answered, %d failed, %d cancelled; at most %d in flight\n",
      result.num_requests(),
      absl::ToDoubleSeconds(result.window),
      result.num_answered,
      result.num_failed(),
      result.num_cancelled,
      result.peak_inflight);
  if (result.num_saturated > 0) {
    text += absl::StrFormat(
        "             CLIENT SATURATED: %d requests were never sent; raise --max-inflight\n",
        result.num_saturated);
  }
  text += absl::StrFormat("rates        %.2f answered/s, %.1f tokens/s\n",
                          result.PerSecond(result.num_answered),
                          result.PerSecond(result.num_window_tokens));
  text += absl::StrFormat("%-12s %9s %9s %9s %9s %9s\n", "ms", "p50", "p90", "p99", "max", "mean");
  text += QuantileLine("first token", result.first_token);
  text += QuantileLine("inter-token", result.inter_token);
  text += QuantileLine("whole", result.total);
  text += QuantileLine("sent late", result.send_delay);
  for (const auto& [key, failures] : result.failures) {
    text += absl::StrFormat("failed       %d x %s %s: p50 %.2f ms, p99 %.2f ms\n",
                            failures.count,
                            key.first,
                            key.second.empty() ? "(gRPC's own)" : key.second,
                            Milliseconds(failures.time.Quantile(0.5)),
                            Milliseconds(failures.time.Quantile(0.99)));
  }
  if (!words.slo.empty()) {
    text += absl::StrFormat("goodput      %.2f/s within %s (%.1f%% of the requests)\n",
                            result.PerSecond(result.num_good),
                            words.slo,
                            Percent(result.num_good, result.num_requests()));
  }
  return text;
}

std::string JsonReport(const LoadWords& words, const LoadResult& result, const Timeline& timeline) {
  const ordered_json report = {{"load", words.load},
                               {"slo", words.slo},
                               {"window_seconds", absl::ToDoubleSeconds(result.window)},
                               {"requests",
                                {{"all", result.num_requests()},
                                 {"answered", result.num_answered},
                                 {"failed", result.num_failed()},
                                 {"cancelled", result.num_cancelled},
                                 {"client_saturated", result.num_saturated}}},
                               {"peak_inflight", result.peak_inflight},
                               {"tokens", result.num_tokens},
                               {"answered_per_second", result.PerSecond(result.num_answered)},
                               {"tokens_per_second", result.PerSecond(result.num_window_tokens)},
                               {"first_token", QuantilesJson(result.first_token)},
                               {"inter_token", QuantilesJson(result.inter_token)},
                               {"total", QuantilesJson(result.total)},
                               {"send_delay", QuantilesJson(result.send_delay)},
                               {"failures", FailuresJson(result)},
                               {"goodput",
                                {{"requests", result.num_good},
                                 {"per_second", result.PerSecond(result.num_good)},
                                 {"share", Percent(result.num_good, result.num_requests()) / 100}}},
                               {"timeline", TimelineJson(timeline)}};
  return report.dump(2, ' ', true, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace phi::phictl
