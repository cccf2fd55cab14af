#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/dtype.h"
#include "shard/checkpoint/file_access.h"

namespace phi::shard {

// A tensor inside a mapped file: row-major and dense.
struct TensorView {
  std::string_view name;  // these three live as long as the Checkpoint
  std::span<const int64_t> shape;
  std::span<const std::byte> bytes;  // of any alignment
  kernels::DType dtype = kernels::DType::kFloat32;
};

// The safetensors of a Hugging Face model directory, mapped: nothing is read but the headers, and
// nothing is allocated for tensors. Files in other formats are ignored beside safetensors, and
// refused by name without them, because they are pickles, which run code. Threads: all methods are
// const and may be called from any thread.
class Checkpoint {
 public:
  // DIR/model.safetensors, or else the files that DIR/model.safetensors.index.json names, all in
  // DIR itself. INVALID_ARGUMENT with the file and tensor for anything malformed; NOT_FOUND where
  // there is no checkpoint.
  static absl::StatusOr<Checkpoint> Open(const std::string& model_dir);

  // NOT_FOUND; INVALID_ARGUMENT for a dtype other than F32, F16 and BF16. Both name the tensor.
  absl::StatusOr<TensorView> Find(std::string_view name) const;
  bool Contains(std::string_view name) const { return tensors_.contains(name); }
  // In alphabetical order.
  std::vector<std::string_view> TensorNames() const;

  // INVALID_ARGUMENT where a file was truncated or written since Open(). Call it right before
  // reading much.
  absl::Status CheckUnchanged() const;
  // Gives the tensor's pages back, so that they no longer count as this process's memory; it can be
  // read again.
  void DropPages(const TensorView& tensor) const;

 private:
  struct Location {
    size_t file_index = 0;
    std::string dtype;
    std::vector<int64_t> shape;
    std::span<const std::byte> bytes;
  };

  absl::Status AddFile(const std::string& path);

  std::vector<MappedFile> files_;
  std::map<std::string, Location, std::less<>> tensors_;
};

}  // namespace phi::shard
