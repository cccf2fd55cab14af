#pragma once

#include <string>

#include "tools/phictl/bench/load_result.h"
#include "tools/phictl/bench/report.h"

namespace phi::phictl {

// The load as an SVG picture, readable on light and on dark pages: latencies by percentile, and
// over time the tokens per second, the first token's latency and the failures.
std::string SvgPlot(const LoadWords& words, const LoadResult& result, const Timeline& timeline);

}  // namespace phi::phictl
