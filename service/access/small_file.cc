#include "service/access/small_file.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "absl/strings/str_format.h"

namespace phi::service {

absl::StatusOr<std::string> ReadSmallFile(std::string_view flag, const std::string& path) {
  constexpr size_t kMaxBytes = size_t{1} << 20;
  const auto error = [&](const char* why) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: %s: %s", flag, path, why));
  };
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path.c_str(), "re"), &std::fclose);
  if (file == nullptr) return error(std::strerror(errno));
  std::string text(kMaxBytes + 1, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  if (std::ferror(file.get()) != 0) return error(std::strerror(errno));
  if (text.size() > kMaxBytes) return error("larger than 1 MiB");
  return text;
}

}  // namespace phi::service
