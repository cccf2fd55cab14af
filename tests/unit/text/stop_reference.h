#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "service/text/text_stream.h"

// Where a generated text ends, found by looking at the whole of it again and again: slow, obvious
// and without any state. Written from docs/api.md and the headers, not from the matchers, which it
// is the reference of.
namespace phi::service {

struct ReferenceStop {
  size_t complete = 0;  // bytes of the text that it takes to know of it
  TextSpan span;        // what is cut off, unless it is included
  std::variant<std::string, StopCondition> stop;
};

// The stop that ends `text`, which goes on with `prompt`: of those whose `complete` counts, the one
// that is complete first; then the one that begins first; then a string before a condition.
std::optional<ReferenceStop> FirstStop(std::string_view prompt,
                                       std::string_view text,
                                       const StopRules& rules,
                                       const std::function<bool(size_t complete)>& counts);

// The length of the end of `text` that some text after it would make part of a stop.
size_t HeldBytes(std::string_view prompt, std::string_view text, const StopRules& rules);

}  // namespace phi::service
