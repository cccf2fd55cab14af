#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// Read-only access to the files of a model directory. Symlinks are followed (a Hugging Face cache
// is made of them); anything that is not a regular file in the end is refused. Errors: what open()
// and mmap() report, under the path's name; NOT_FOUND for a file that is not there.
namespace phi::shard {

// The whole file; INVALID_ARGUMENT above max_bytes.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path, uint64_t max_bytes);

// A whole file mapped privately and read-only. Reading pages of a file that somebody truncates in
// place raises SIGBUS, which no library can turn into a Status: CheckUnchanged() narrows the
// window, main() owns the handler.
class MappedFile {
 public:
  static absl::StatusOr<MappedFile> Open(const std::string& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }

  // INVALID_ARGUMENT where the open file's size or time of change is not that of Open().
  absl::Status CheckUnchanged() const;
  // This process no longer counts the pages of `range` (within bytes()) as its own; they may be
  // read again.
  void DropPages(std::span<const std::byte> range) const;

 private:
  MappedFile() = default;

  std::string path_;
  int fd_ = -1;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  int64_t changed_ns_ = 0;
};

}  // namespace phi::shard
