#include "service/router/served_model.h"

#include <filesystem>
#include <utility>

#include "kernels/base/status_macros.h"
#include "service/api/model_fingerprint.h"
#include "service/api/model_name.h"

namespace phi::service {
namespace {

absl::Status CheckFiles(const std::filesystem::path& dir) {
  std::error_code error;
  if (!std::filesystem::is_directory(dir, error)) {
    return absl::NotFoundError(
        "--model: no directory " + dir.string() +
        " (give one with config.json and tokenizer.json, such as deploy/models/phi-nano)");
  }
  for (const char* name : {"config.json", "tokenizer.json"}) {
    if (std::filesystem::is_regular_file(dir / name, error)) continue;
    return absl::NotFoundError("--model: " + (dir / name).string() +
                               " is missing (a Hugging Face download of the model holds it)");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ServedModel> LoadServedModel(const std::string& model_dir, const std::string& name) {
  std::error_code error;
  const std::filesystem::path given = std::filesystem::absolute(model_dir + "/", error);
  if (error) return absl::NotFoundError("--model: no directory " + model_dir);
  const std::filesystem::path dir = given.lexically_normal().parent_path();
  PHI_RETURN_IF_ERROR(CheckFiles(dir));
  PHI_ASSIGN_OR_RETURN(shard::ModelConfig config, shard::ReadModelConfig(dir.string()));
  PHI_ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::Load((dir / "tokenizer.json").string()));
  PHI_ASSIGN_OR_RETURN(std::string fingerprint, ModelFingerprint(dir.string()));
  if (tokenizer.vocab_size() > static_cast<uint32_t>(config.vocab_size)) {
    return absl::InvalidArgumentError("--model: " + (dir / "tokenizer.json").string() + " has " +
                                      std::to_string(tokenizer.vocab_size()) +
                                      " tokens, config.json's vocab_size is " +
                                      std::to_string(config.vocab_size));
  }
  return ServedModel{.name = name.empty() ? ModelName(model_dir) : name,
                     .fingerprint = std::move(fingerprint),
                     .config = config,
                     .tokenizer = std::move(tokenizer)};
}

}  // namespace phi::service
