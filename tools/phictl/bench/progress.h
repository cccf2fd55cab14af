#pragma once

#include <cstdio>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "tools/phictl/bench/load_result.h"

namespace phi::phictl {

// How far a load is: on a terminal one line with a bar, drawn anew at each tick; elsewhere a plain
// line every five seconds.
class Progress {
 public:
  // `length` of the load in time, or `num_requests` of it, whichever is known; neither: no bar.
  Progress(std::FILE* out,
           bool is_terminal,
           absl::Time start,
           absl::Duration length,
           std::optional<uint64_t> num_requests);

  void Tick(absl::Time now, const LiveCounts& counts);
  // Clears the bar away.
  void End();

  // One line, such as "[#####-----]  50%  12 s  37 in flight  1234 ended  5 failed  890 tokens/s".
  std::string Line(absl::Time now, const LiveCounts& counts) const;

 private:
  std::FILE* const out_;
  const bool is_terminal_;
  const absl::Time start_;
  const absl::Duration length_;
  const std::optional<uint64_t> num_requests_;
  absl::Time next_line_;
};

}  // namespace phi::phictl
