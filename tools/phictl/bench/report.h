#pragma once

#include <string>

#include "tools/phictl/bench/load_result.h"

namespace phi::phictl {

// What was asked for, in words, for the head of every report.
struct LoadWords {
  std::string load;  // "poisson, 12 requests/s for 30s, prompt 128, output 64, seed 1"
  std::string slo;   // as given: "ttft=500ms,itl=50ms"; empty: none
};

// For people: a dozen lines.
std::string TextReport(const LoadWords& words, const LoadResult& result);

// For programs: one JSON object. Durations are in milliseconds and end in `_ms`; `timeline` has an
// entry for each interval from the load's start on, warm-up included.
std::string JsonReport(const LoadWords& words, const LoadResult& result, const Timeline& timeline);

}  // namespace phi::phictl
