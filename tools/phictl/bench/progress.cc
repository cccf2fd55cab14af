#include "tools/phictl/bench/progress.h"

#include <algorithm>

#include "absl/strings/str_format.h"

namespace phi::phictl {
namespace {

constexpr absl::Duration kPlainLineEvery = absl::Seconds(5);
constexpr absl::Duration kBarEvery = absl::Milliseconds(100);
constexpr size_t kBarWidth = 24;

}  // namespace

Progress::Progress(std::FILE* out,
                   bool is_terminal,
                   absl::Time start,
                   absl::Duration length,
                   std::optional<uint64_t> num_requests)
    : out_(out),
      is_terminal_(is_terminal),
      start_(start),
      length_(length),
      num_requests_(num_requests),
      next_line_(start + (is_terminal ? absl::ZeroDuration() : kPlainLineEvery)) {}

std::string Progress::Line(absl::Time now, const LiveCounts& counts) const {
  const absl::Duration since = std::max(now - start_, absl::Milliseconds(1));
  std::string line;
  if (length_ != absl::InfiniteDuration() || num_requests_.has_value()) {
    double share = absl::FDivDuration(since, length_);
    if (num_requests_.has_value()) {
      share = std::max(share,
                       static_cast<double>(counts.num_ended) / static_cast<double>(*num_requests_));
    }
    share = std::min(share, 1.0);
    const auto filled = static_cast<size_t>(share * kBarWidth);
    line = absl::StrFormat("[%s%s] %3.0f%%  ",
                           std::string(filled, '#'),
                           std::string(kBarWidth - filled, '-'),
                           100 * share);
  }
  return line +
         absl::StrFormat("%.0f s  %d in flight  %d ended  %d failed  %.0f tokens/s",
                         absl::ToDoubleSeconds(since),
                         counts.inflight,
                         counts.num_ended,
                         counts.num_failed,
                         static_cast<double>(counts.num_tokens) / absl::ToDoubleSeconds(since));
}

void Progress::Tick(absl::Time now, const LiveCounts& counts) {
  if (now < next_line_) return;
  std::fprintf(out_, is_terminal_ ? "\r%s\033[K" : "%s\n", Line(now, counts).c_str());
  next_line_ = now + (is_terminal_ ? kBarEvery : kPlainLineEvery);
  std::fflush(out_);
}

void Progress::End() {
  if (is_terminal_) std::fprintf(out_, "\r\033[K");
}

}  // namespace phi::phictl
