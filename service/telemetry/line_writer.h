#pragma once

#include <cstddef>
#include <string_view>

namespace phi::service {

// Writes whole lines to a descriptor without ever waiting for its reader. Threads: one caller at a
// time.
class LineWriter {
 public:
  // A pipe takes this many bytes in one piece or none of them (PIPE_BUF on Linux).
  static constexpr size_t kMaxLineBytes = 4096;

  // `fd` stays the caller's.
  explicit LineWriter(int fd);
  ~LineWriter();
  LineWriter(const LineWriter&) = delete;
  LineWriter& operator=(const LineWriter&) = delete;

  // False when the line, kMaxLineBytes at most, was dropped.
  bool Write(std::string_view line) const;

 private:
  enum class Kind { kOwnNonblocking, kSocket, kPlain };

  int fd_;
  int own_fd_ = -1;
  Kind kind_ = Kind::kPlain;
};

}  // namespace phi::service
