#include "shard/checkpoint/file_access.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_format.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"

namespace phi::shard {
namespace {

int64_t ChangedNs(const struct stat& info) {
  return int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + int64_t{info.st_mtim.tv_nsec};
}

// O_NONBLOCK, because opening a FIFO would wait for its writer.
absl::StatusOr<int> OpenRegularFile(const std::string& path, struct stat& info) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return absl::ErrnoToStatus(errno, "cannot open " + path);
  if (::fstat(fd, &info) != 0) {
    const int error = errno;
    ::close(fd);
    return absl::ErrnoToStatus(error, "cannot look at " + path);
  }
  if (!S_ISREG(info.st_mode)) {
    ::close(fd);
    return absl::InvalidArgumentError(path + " is not a regular file");
  }
  return fd;
}

absl::Status ReadAll(int fd, const std::string& path, std::string& to) {
  size_t done = 0;
  while (done < to.size()) {
    const ssize_t got = ::read(fd, to.data() + done, to.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return absl::ErrnoToStatus(errno, "cannot read " + path);
    if (got == 0) return absl::InvalidArgumentError(path + " became shorter while it was read");
    done += static_cast<size_t>(got);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> ReadSmallFile(const std::string& path, uint64_t max_bytes) {
  struct stat info = {};
  PHI_ASSIGN_OR_RETURN(const int fd, OpenRegularFile(path, info));
  const auto size = static_cast<uint64_t>(info.st_size);
  if (size > max_bytes) {
    ::close(fd);
    return absl::InvalidArgumentError(
        absl::StrFormat("%s has %d bytes; at most %d are read", path, size, max_bytes));
  }
  std::string text(size, '\0');
  const absl::Status status = ReadAll(fd, path, text);
  ::close(fd);
  if (!status.ok()) return status;
  return text;
}

absl::StatusOr<MappedFile> MappedFile::Open(const std::string& path) {
  struct stat info = {};
  MappedFile file;
  PHI_ASSIGN_OR_RETURN(file.fd_, OpenRegularFile(path, info));
  file.path_ = path;
  file.size_ = static_cast<size_t>(info.st_size);
  file.changed_ns_ = ChangedNs(info);
  if (file.size_ == 0) return file;  // mmap refuses an empty range
  void* data = ::mmap(nullptr, file.size_, PROT_READ, MAP_PRIVATE, file.fd_, 0);
  if (data == MAP_FAILED) return absl::ErrnoToStatus(errno, "cannot map " + path);
  file.data_ = static_cast<const std::byte*>(data);
  // Weights are read once, front to back, matrix by matrix: large read-ahead from a cold disk.
  ::madvise(data, file.size_, MADV_SEQUENTIAL);
  return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      changed_ns_(other.changed_ns_) {}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
  if (fd_ >= 0) ::close(fd_);
}

absl::Status MappedFile::CheckUnchanged() const {
  struct stat info = {};
  if (::fstat(fd_, &info) != 0) return absl::ErrnoToStatus(errno, "cannot look at " + path_);
  if (static_cast<size_t>(info.st_size) != size_ || ChangedNs(info) != changed_ns_) {
    return absl::InvalidArgumentError(path_ + " was changed while the model was loaded");
  }
  return absl::OkStatus();
}

void MappedFile::DropPages(std::span<const std::byte> range) const {
  if (range.empty()) return;
  PHI_CHECK(range.data() >= data_ && range.data() + range.size() <= data_ + size_,
            "%zu bytes outside of %s",
            range.size(),
            path_.c_str());
  // The pages at both ends may hold a neighbour's bytes: it faults them in again from the page
  // cache.
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const size_t before = reinterpret_cast<uintptr_t>(range.data()) % page;
  ::madvise(const_cast<std::byte*>(range.data()) - before, before + range.size(), MADV_DONTNEED);
}

}  // namespace phi::shard
