#include "service/telemetry/line_writer.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>

namespace phi::service {

LineWriter::LineWriter(int fd) : fd_(fd) {
  struct stat status = {};
  if (::fstat(fd, &status) != 0) return;
  if (S_ISSOCK(status.st_mode)) {
    kind_ = Kind::kSocket;
  } else if (S_ISFIFO(status.st_mode) || S_ISCHR(status.st_mode)) {
    // O_NONBLOCK belongs to the open file, which standard error shares with the shell and every
    // other process on it. Opened anew, the same pipe or terminal has a flag of our own.
    const std::string path = "/proc/self/fd/" + std::to_string(fd);
    own_fd_ = ::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (own_fd_ >= 0) kind_ = Kind::kOwnNonblocking;
  }
}

LineWriter::~LineWriter() {
  if (own_fd_ >= 0) ::close(own_fd_);
}

bool LineWriter::Write(std::string_view line) const {
  ssize_t written = -1;
  do {
    if (kind_ == Kind::kSocket) {
      written = ::send(fd_, line.data(), line.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    } else if (kind_ == Kind::kOwnNonblocking) {
      written = ::write(own_fd_, line.data(), line.size());
    } else {
      // A file, or a pipe that may not be opened anew: that it has room now is the best that can be
      // asked.
      pollfd room = {.fd = fd_, .events = POLLOUT, .revents = 0};
      if (::poll(&room, 1, 0) <= 0 || (room.revents & POLLOUT) == 0) return false;
      written = ::write(fd_, line.data(), line.size());
    }
  } while (written < 0 && errno == EINTR);
  return written == static_cast<ssize_t>(line.size());
}

}  // namespace phi::service
