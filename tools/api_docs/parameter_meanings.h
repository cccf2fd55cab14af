#pragma once

#include <span>
#include <string_view>

namespace phi::tools {

struct ParameterMeaning {
  std::string_view field;  // in GenerationParameters
  std::string_view meaning;
};

// One sentence or two a field of GenerationParameters, in the proto's order.
std::span<const ParameterMeaning> ParameterMeanings();

}  // namespace phi::tools
