#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace phi::service {

// A stretch of the generated text, in bytes from its beginning.
struct TextSpan {
  size_t begin = 0;
  size_t end = 0;
};

// Looks for stop strings in a text that comes byte by byte. One Knuth-Morris-Pratt automaton for
// each stop, so the work is at most (number of stops) × (bytes). Not thread-safe.
class StopStringMatcher {
 public:
  struct Match {
    size_t stop_index = 0;
    TextSpan span;
  };

  // No stop is empty.
  explicit StopStringMatcher(std::vector<std::string> stops);

  // Takes the next byte. The stop that it completes, the longest if several; searching may go on.
  std::optional<Match> Append(char byte);

  // The length of the longest end of the text that may still become a stop.
  size_t held_bytes() const { return held_bytes_; }

 private:
  struct Stop {
    std::string text;
    std::vector<size_t> fallback;  // [n]: longest proper border of the first n bytes
    size_t matched = 0;            // bytes of the stop that the text ends in; < text.size()
  };

  std::vector<Stop> stops_;
  size_t position_ = 0;
  size_t held_bytes_ = 0;
};

}  // namespace phi::service
