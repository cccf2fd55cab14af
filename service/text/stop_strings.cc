#include "service/text/stop_strings.h"

#include <algorithm>
#include <utility>

#include "kernels/base/check.h"

namespace phi::service {
namespace {

std::vector<size_t> Borders(const std::string& text) {
  std::vector<size_t> borders(text.size() + 1, 0);
  size_t border = 0;
  for (size_t i = 1; i < text.size(); ++i) {
    while (border > 0 && text[i] != text[border]) border = borders[border];
    if (text[i] == text[border]) ++border;
    borders[i + 1] = border;
  }
  return borders;
}

}  // namespace

StopStringMatcher::StopStringMatcher(std::vector<std::string> stops) {
  for (std::string& stop : stops) {
    PHI_CHECK(!stop.empty(), "stop %zu is empty", stops_.size());
    std::vector<size_t> borders = Borders(stop);
    stops_.push_back({.text = std::move(stop), .fallback = std::move(borders), .matched = 0});
  }
}

std::optional<StopStringMatcher::Match> StopStringMatcher::Append(char byte) {
  ++position_;
  held_bytes_ = 0;
  std::optional<Match> longest;
  for (size_t index = 0; index < stops_.size(); ++index) {
    Stop& stop = stops_[index];
    while (stop.matched > 0 && stop.text[stop.matched] != byte) {
      stop.matched = stop.fallback[stop.matched];
    }
    if (stop.text[stop.matched] == byte) ++stop.matched;
    if (stop.matched == stop.text.size()) {
      const size_t begin = position_ - stop.text.size();
      if (!longest || begin < longest->span.begin) {
        longest = Match{.stop_index = index, .span = {.begin = begin, .end = position_}};
      }
      stop.matched = stop.fallback[stop.matched];
    }
    held_bytes_ = std::max(held_bytes_, stop.matched);
  }
  return longest;
}

}  // namespace phi::service
