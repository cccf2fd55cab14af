#pragma once

#include <string>
#include <string_view>

namespace phi {

// `text` that a stranger wrote, for an error message of one line: control bytes and quotes escaped,
// cut after at most 160 bytes, between two characters where it is UTF-8.
std::string Quoted(std::string_view text);

}  // namespace phi
