#include "tools/api_docs/marked_text.h"

#include <set>

#include "absl/strings/str_format.h"

namespace phi::tools {

absl::StatusOr<std::string> ReplaceMarked(std::string_view text,
                                          const std::map<std::string, std::string>& parts) {
  constexpr std::string_view kBegin = "<!-- begin: ";
  constexpr std::string_view kClose = " -->";
  std::string result;
  std::set<std::string> seen;
  for (;;) {
    const size_t begin = text.find(kBegin);
    if (begin == std::string_view::npos) break;
    const size_t name_begin = begin + kBegin.size();
    const size_t name_end = text.find(kClose, name_begin);
    if (name_end == std::string_view::npos) {
      return absl::InvalidArgumentError("a marker does not end");
    }
    const std::string name(text.substr(name_begin, name_end - name_begin));
    const auto part = parts.find(name);
    if (part == parts.end() || !seen.insert(name).second) {
      return absl::InvalidArgumentError(absl::StrFormat("%s: unknown, or twice there", name));
    }
    const std::string end_marker = "<!-- end: " + name + " -->";
    const size_t end = text.find(end_marker, name_end);
    if (end == std::string_view::npos) {
      return absl::InvalidArgumentError(absl::StrFormat("%s is not there", end_marker));
    }
    result += text.substr(0, name_end + kClose.size());
    result += "\n" + part->second;
    result += end_marker;
    text.remove_prefix(end + end_marker.size());
  }
  for (const auto& [name, part] : parts) {
    if (!seen.contains(name)) {
      return absl::InvalidArgumentError(absl::StrFormat("the text has no place for %s", name));
    }
  }
  return result + std::string(text);
}

}  // namespace phi::tools
