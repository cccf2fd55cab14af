#include "tools/phictl/bench/plot.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>

#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace phi::phictl {
namespace {

constexpr double kWidth = 960;
constexpr double kHeight = 420;
constexpr const char* kBlue = "#3b82f6";
constexpr const char* kGreen = "#16a34a";
constexpr const char* kOrange = "#ea8a0c";
constexpr const char* kRed = "#dc4c4c";

std::string Escaped(const std::string& text) {
  return absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}});
}

// "start", "middle" or "end" of the text at (x, y).
std::string Text(double x, double y, const char* anchor, const std::string& text) {
  return absl::StrFormat(
      "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", x, y, anchor, Escaped(text));
}

std::string ShortNumber(double value) {
  if (value >= 1e6) return absl::StrFormat("%gM", value / 1e6);
  if (value >= 1e4) return absl::StrFormat("%gk", value / 1e3);
  return absl::StrFormat("%g", value);
}

std::string ThreeDigits(double value) {
  return value >= 100 ? absl::StrFormat("%.0f", value) : absl::StrFormat("%.3g", value);
}

// The next of 1, 2, 5 times a power of ten that is not below `value`.
double RoundUp(double value) {
  if (value <= 0) return 1;
  const double power = std::pow(10, std::floor(std::log10(value)));
  for (const double step : {1.0, 2.0, 5.0}) {
    if (value <= step * power * 1.0000001) return step * power;
  }
  return 10 * power;
}

// A rectangle with axes: y linear from 0, or logarithmic over whole decades.
struct Panel {
  double left, top, width, height;
  double low, high;  // of y; logarithmic where low > 0

  double X(double share) const { return left + share * width; }
  double Y(double value) const {
    const double share =
        low > 0 ? std::log(std::max(value, low) / low) / std::log(high / low) : value / high;
    return top + height * (1 - std::clamp(share, 0.0, 1.0));
  }

  std::string Frame(const std::string& title) const {
    std::string svg =
        absl::StrFormat("<g class=\"title\">%s</g>\n", Text(left, top - 9, "start", title));
    std::vector<double> marks;
    if (low > 0) {
      const long decades = std::lround(std::log10(high / low));
      for (long i = 0; i <= decades; ++i) marks.push_back(low * std::pow(10, i));
    } else {
      marks = {0, high / 2, high};
    }
    for (const double mark : marks) {
      svg +=
          absl::StrFormat("<path class=\"grid\" d=\"M%.1f %.1fh%.1f\"/>\n", left, Y(mark), width);
      svg += Text(left - 6, Y(mark) + 4, "end", ShortNumber(mark));
    }
    return svg;
  }
};

using Points = std::vector<std::pair<double, double>>;

std::string Line(const Points& points, const char* colour) {
  if (points.empty()) return "";
  std::string path;
  for (const auto& [x, y] : points) {
    path += absl::StrFormat("%c%.1f %.1f", path.empty() ? 'M' : 'L', x, y);
  }
  return absl::StrFormat("<path class=\"line\" stroke=\"%s\" d=\"%s\"/>\n", colour, path);
}

// Words in their lines' colours, side by side.
std::string Legend(double x,
                   double y,
                   const std::vector<std::pair<const char*, const char*>>& words) {
  std::string svg;
  for (const auto& [word, colour] : words) {
    svg += absl::StrFormat(
        "<path class=\"line\" stroke=\"%s\" d=\"M%.1f %.1fh14\"/>\n", colour, x, y - 4);
    svg += Text(x + 19, y, "start", word);
    x += 38 + 6.4 * static_cast<double>(std::string(word).size());
  }
  return svg;
}

// x is how many nines: 90%, 99% and 99.9% are equally far apart.
std::string Percentiles(const LoadResult& result) {
  const std::array<const LatencyHistogram*, 3> histograms = {
      &result.inter_token, &result.first_token, &result.total};
  const std::array<const char*, 3> colours = {kGreen, kBlue, kOrange};
  double least = 1e9;
  double most = 1e-3;
  for (const LatencyHistogram* histogram : histograms) {
    if (histogram->count() == 0) continue;
    least = std::min(least, absl::ToDoubleMilliseconds(histogram->Quantile(0.01)));
    most = std::max(most, absl::ToDoubleMilliseconds(histogram->max()));
  }
  least = std::clamp(least, 1e-3, most);
  const double low = std::pow(10, std::floor(std::log10(least)));
  const double high = std::max(std::pow(10, std::ceil(std::log10(most))), 10 * low);
  const Panel panel{60, 92, 370, 270, low, high};
  constexpr double kNines = 3;
  constexpr int kSteps = 100;
  std::string svg = panel.Frame("latency by percentile, ms");
  for (const auto& [share, name] :
       {std::pair{0.0, "0"}, {0.5, "50"}, {0.9, "90"}, {0.99, "99"}, {0.999, "99.9"}}) {
    const double x = panel.X(-std::log10(1 - share) / kNines);
    svg += absl::StrFormat(
        "<path class=\"grid\" d=\"M%.1f %.1fv%.1f\"/>\n", x, panel.top, panel.height);
    svg += Text(x, panel.top + panel.height + 17, "middle", name);
  }
  for (size_t i = 0; i < histograms.size(); ++i) {
    if (histograms[i]->count() == 0) continue;
    Points points;
    for (int step = 0; step <= kSteps; ++step) {
      const double nines = kNines * step / kSteps;
      const double value =
          absl::ToDoubleMilliseconds(histograms[i]->Quantile(1 - std::pow(10, -nines)));
      points.emplace_back(panel.X(nines / kNines), panel.Y(value));
    }
    svg += Line(points, colours[i]);
  }
  return svg + Legend(60,
                      kHeight - 16,
                      {{"inter-token", kGreen}, {"first token", kBlue}, {"whole", kOrange}});
}

std::string OverTime(const Timeline& timeline) {
  const auto& intervals = timeline.intervals();
  const double seconds = absl::ToDoubleSeconds(timeline.interval());
  const auto per_second = [seconds](uint64_t count) {
    return static_cast<double>(count) / seconds;
  };
  double most_tokens = 0, most_failed = 0, most_latency = 0;
  for (const Interval& interval : intervals) {
    most_tokens = std::max(most_tokens, per_second(interval.num_tokens));
    most_failed = std::max(most_failed, per_second(interval.num_failed));
    most_latency = std::max(most_latency, absl::ToDoubleMilliseconds(interval.first_token.max()));
  }
  const Panel tokens{530, 92, 400, 68, 0, RoundUp(most_tokens)};
  const Panel latency{530, 198, 400, 68, 0, RoundUp(most_latency)};
  const Panel failed{530, 304, 400, 58, 0, RoundUp(most_failed)};
  Points token_points, median_points, max_points, failed_points;
  const auto count = static_cast<double>(intervals.size());
  for (size_t i = 0; i < intervals.size(); ++i) {
    const Interval& interval = intervals[i];
    const double x = tokens.X((static_cast<double>(i) + 0.5) / count);
    token_points.emplace_back(x, tokens.Y(per_second(interval.num_tokens)));
    failed_points.emplace_back(x, failed.Y(per_second(interval.num_failed)));
    if (interval.first_token.count() == 0) continue;
    median_points.emplace_back(
        x, latency.Y(absl::ToDoubleMilliseconds(interval.first_token.Quantile(0.5))));
    max_points.emplace_back(x, latency.Y(absl::ToDoubleMilliseconds(interval.first_token.max())));
  }
  std::string svg = tokens.Frame("tokens per second") + Line(token_points, kBlue) +
                    latency.Frame("first token by when it was due, ms") +
                    Line(max_points, kOrange) + Line(median_points, kBlue) +
                    failed.Frame("failures per second") + Line(failed_points, kRed);
  for (const double share : {0.0, 0.5, 1.0}) {
    svg += Text(failed.X(share),
                failed.top + failed.height + 17,
                "middle",
                absl::StrFormat("%.3g s", share * count * seconds));
  }
  return svg + Legend(530, kHeight - 16, {{"median", kBlue}, {"greatest", kOrange}});
}

}  // namespace

std::string SvgPlot(const LoadWords& words, const LoadResult& result, const Timeline& timeline) {
  std::string svg = absl::StrFormat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" "
      "font-family=\"system-ui, sans-serif\" font-size=\"12\">\n"
      "<style>text{fill:#57606a}.title text{font-weight:600}"
      ".grid{stroke:#8b949e;stroke-opacity:.35;fill:none}.line{fill:none;stroke-width:2;"
      "stroke-linejoin:round}@media(prefers-color-scheme:dark){text{fill:#b1bac4}}</style>\n",
      kWidth,
      kHeight);
  const std::string head =
      absl::StrFormat("%.1f answered/s, %.0f tokens/s; first token p50 %s ms, p99 %s ms",
                      result.PerSecond(result.num_answered),
                      result.PerSecond(result.num_window_tokens),
                      ThreeDigits(absl::ToDoubleMilliseconds(result.first_token.Quantile(0.5))),
                      ThreeDigits(absl::ToDoubleMilliseconds(result.first_token.Quantile(0.99))));
  svg += "<g class=\"title\" font-size=\"14\">" + Text(20, 24, "start", head) + "</g>\n";
  svg += Text(20, 42, "start", words.load);
  if (!words.slo.empty()) {
    svg += Text(
        20,
        59,
        "start",
        absl::StrFormat("goodput %.1f/s within %s", result.PerSecond(result.num_good), words.slo));
  }
  return svg + Percentiles(result) + OverTime(timeline) + "</svg>\n";
}

}  // namespace phi::phictl
