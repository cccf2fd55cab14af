#include "shard/checkpoint/safetensors.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/quoted.h"
#include "kernels/base/status_macros.h"
#include "shard/checkpoint/bounded_json.h"
#include "shard/checkpoint/safetensors_header.h"

namespace phi::shard {
namespace {

constexpr std::string_view kSingleFile = "model.safetensors";
constexpr std::string_view kIndexFile = "model.safetensors.index.json";
constexpr uint64_t kMaxIndexBytes = 32 << 20;
constexpr size_t kMaxFiles = 1000;
constexpr int kIndexDepth = 4;  // the index itself, its maps, and room for what "metadata" says

using WeightMap = std::map<std::string, std::string, std::less<>>;  // tensor to file name

absl::Status InFile(const std::string& path, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
}

std::optional<kernels::DType> ServedDType(std::string_view name) {
  if (name == "F32") return kernels::DType::kFloat32;
  if (name == "F16") return kernels::DType::kFloat16;
  if (name == "BF16") return kernels::DType::kBFloat16;
  return std::nullopt;
}

// Where no safetensors are there: the reason, by the name of what lies there instead.
absl::Status NoSafetensors(const std::string& model_dir) {
  constexpr std::array<std::string_view, 9> kOtherFormats = {
      ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack", ".gguf"};
  std::error_code error;
  std::set<std::string> others;
  for (std::filesystem::directory_iterator it(model_dir, error), end; !error && it != end;
       it.increment(error)) {
    if (std::ranges::find(kOtherFormats, it->path().extension().string()) != kOtherFormats.end()) {
      others.insert(it->path().filename().string());
    }
  }
  if (error)
    return absl::NotFoundError(absl::StrCat("cannot list ", model_dir, ": ", error.message()));
  if (others.empty()) {
    return absl::NotFoundError(absl::StrCat("there is neither ",
                                            std::string(kSingleFile),
                                            " nor ",
                                            std::string(kIndexFile),
                                            " in ",
                                            model_dir));
  }
  return absl::InvalidArgumentError(
      absl::StrCat(model_dir,
                   "/",
                   Quoted(*others.begin()),
                   " is refused: only safetensors are read, for pickled weights can run code. "
                   "Convert it in Python: "
                   "AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW_DIR, "
                   "safe_serialization=True)"));
}

// A file of the checkpoint lies in its directory, so its name is no path.
bool IsPlainSafetensorsName(std::string_view name) {
  return name.ends_with(".safetensors") && name.find('/') == name.npos &&
         name.find('\0') == name.npos;
}

absl::StatusOr<WeightMap> ReadIndex(const std::string& path) {
  PHI_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path, kMaxIndexBytes));
  PHI_ASSIGN_OR_RETURN(const nlohmann::json index, ParseBoundedJson(text, kIndexDepth));
  const auto map = index.find("weight_map");
  if (map == index.end() || !map->is_object())
    return absl::InvalidArgumentError("`weight_map` is not an object");
  if (map->size() > kMaxSafetensorsTensors)
    return absl::InvalidArgumentError("`weight_map` has too many tensors");
  WeightMap weight_map;
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string() || !IsPlainSafetensorsName(file.get_ref<const std::string&>())) {
      return absl::InvalidArgumentError("`weight_map`: the file of tensor " + Quoted(tensor) +
                                        " is not the plain name of a .safetensors file");
    }
    weight_map.emplace(tensor, file.get<std::string>());
  }
  return weight_map;
}

}  // namespace

absl::StatusOr<Checkpoint> Checkpoint::Open(const std::string& model_dir) {
  Checkpoint checkpoint;
  const std::filesystem::path dir(model_dir);
  const std::string single = (dir / kSingleFile).string();
  const absl::Status status = checkpoint.AddFile(single);
  if (status.ok()) return checkpoint;
  if (!absl::IsNotFound(status)) return status;

  const std::string index = (dir / kIndexFile).string();
  absl::StatusOr<WeightMap> weight_map = ReadIndex(index);
  if (absl::IsNotFound(weight_map.status())) return NoSafetensors(model_dir);
  if (!weight_map.ok()) return InFile(index, weight_map.status());
  std::set<std::string> names;
  for (const auto& [tensor, file] : *weight_map) names.insert(file);
  if (names.size() > kMaxFiles)
    return InFile(index, absl::InvalidArgumentError("`weight_map` names too many files"));
  for (const std::string& name : names)
    PHI_RETURN_IF_ERROR(checkpoint.AddFile((dir / name).string()));

  for (const auto& [tensor, file] : *weight_map) {
    const auto found = checkpoint.tensors_.find(tensor);
    if (found == checkpoint.tensors_.end() ||
        checkpoint.files_[found->second.file_index].path() != (dir / file).string()) {
      return InFile(
          index,
          absl::InvalidArgumentError("tensor " + Quoted(tensor) + " is not in " + Quoted(file)));
    }
  }
  for (const auto& [tensor, location] : checkpoint.tensors_) {
    if (weight_map->contains(tensor)) continue;
    return InFile(checkpoint.files_[location.file_index].path(),
                  absl::InvalidArgumentError("tensor " + Quoted(tensor) + " is not in the index"));
  }
  return checkpoint;
}

absl::Status Checkpoint::AddFile(const std::string& path) {
  PHI_ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  absl::StatusOr<std::vector<SafetensorsEntry>> entries = ParseSafetensorsHeader(file.bytes());
  if (!entries.ok()) return InFile(path, entries.status());
  for (SafetensorsEntry& entry : *entries) {
    Location location = {.file_index = files_.size(),
                         .dtype = std::move(entry.dtype),
                         .shape = std::move(entry.shape),
                         .bytes = file.bytes().subspan(entry.begin, entry.end - entry.begin)};
    if (!tensors_.emplace(entry.name, std::move(location)).second) {
      return InFile(
          path,
          absl::InvalidArgumentError("tensor " + Quoted(entry.name) + " is in another file too"));
    }
    if (tensors_.size() > kMaxSafetensorsTensors) {
      return InFile(path, absl::InvalidArgumentError("there are too many tensors"));
    }
  }
  files_.push_back(std::move(file));
  return absl::OkStatus();
}

absl::StatusOr<TensorView> Checkpoint::Find(std::string_view name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) return absl::NotFoundError("there is no tensor " + Quoted(name));
  const Location& location = found->second;
  const std::optional<kernels::DType> dtype = ServedDType(location.dtype);
  if (!dtype) {
    return absl::InvalidArgumentError(absl::StrCat(files_[location.file_index].path(),
                                                   ": tensor ",
                                                   Quoted(name),
                                                   " has dtype ",
                                                   location.dtype,
                                                   "; F32, F16 and BF16 are served"));
  }
  return TensorView{
      .name = found->first, .shape = location.shape, .bytes = location.bytes, .dtype = *dtype};
}

std::vector<std::string_view> Checkpoint::TensorNames() const {
  std::vector<std::string_view> names;
  names.reserve(tensors_.size());
  for (const auto& [name, location] : tensors_) names.push_back(name);
  return names;
}

absl::Status Checkpoint::CheckUnchanged() const {
  for (const MappedFile& file : files_) PHI_RETURN_IF_ERROR(file.CheckUnchanged());
  return absl::OkStatus();
}

void Checkpoint::DropPages(const TensorView& tensor) const {
  const auto found = tensors_.find(tensor.name);
  if (found != tensors_.end()) files_[found->second.file_index].DropPages(tensor.bytes);
}

}  // namespace phi::shard
