#include "service/worker/group/group_page.h"

#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <new>
#include <utility>

#include "kernels/base/status_macros.h"

namespace phi::service {
namespace {

absl::StatusOr<void*> Map(int fd) {
  void* memory = mmap(nullptr, sizeof(GroupPage), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return absl::ErrnoToStatus(errno, "mapping the group's page");
  return memory;
}

}  // namespace

bool GroupPage::AllLoaded(int world_size) const {
  for (int rank = 0; rank < world_size; ++rank) {
    if (ranks[static_cast<size_t>(rank)].loaded_ns.load() == 0) return false;
  }
  return true;
}

int64_t MonotonicNanos() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

absl::StatusOr<SharedGroupPage> SharedGroupPage::Create() {
  const int fd = memfd_create("phi-group", MFD_CLOEXEC);
  if (fd < 0) return absl::ErrnoToStatus(errno, "memfd_create");
  if (ftruncate(fd, sizeof(GroupPage)) != 0) {
    const absl::Status status = absl::ErrnoToStatus(errno, "ftruncate");
    close(fd);
    return status;
  }
  PHI_ASSIGN_OR_RETURN(void* memory, Map(fd));
  return SharedGroupPage(fd, new (memory) GroupPage);
}

absl::StatusOr<SharedGroupPage> SharedGroupPage::Attach(int fd) {
  PHI_ASSIGN_OR_RETURN(void* memory, Map(fd));
  return SharedGroupPage(fd, static_cast<GroupPage*>(memory));
}

SharedGroupPage::SharedGroupPage(SharedGroupPage&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), page_(std::exchange(other.page_, nullptr)) {}

SharedGroupPage::~SharedGroupPage() {
  if (page_ != nullptr) munmap(page_, sizeof(GroupPage));
  if (fd_ >= 0) close(fd_);
}

}  // namespace phi::service
