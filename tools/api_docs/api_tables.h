#pragma once

#include <map>
#include <string>

namespace phi::tools {

// The tables of docs/api.md by the name between its markers, as Markdown.
std::map<std::string, std::string> ApiTables();

}  // namespace phi::tools
