#pragma once

#include <filesystem>
#include <string>

namespace phi::service {

// The folder's own name, as it was given: "models/phi-1/" is phi-1, "." like the folder that it is,
// and a link like itself. Empty where there is no current folder.
inline std::string ModelName(const std::string& model_dir) {
  std::error_code error;
  const std::filesystem::path given = std::filesystem::absolute(model_dir + "/", error);
  return given.lexically_normal().parent_path().filename().string();
}

}  // namespace phi::service
