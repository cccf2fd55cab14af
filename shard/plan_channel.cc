#include "shard/plan_channel.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "kernels/base/status_macros.h"

namespace phi::shard {
namespace {

constexpr size_t kLengthBytes = sizeof(uint32_t);
// A length is not believed before that many bytes have come: the buffer grows with them.
constexpr size_t kReadBytes = size_t{64} << 10;

// Not the wall clock: that one jumps, and a deadline with it.
using SteadyClock = std::chrono::steady_clock;
using SteadyTime = SteadyClock::time_point;
constexpr int64_t kMaxWaitMs = 3'600'000;

SteadyTime DeadlineIn(absl::Duration timeout) {
  const absl::Duration bounded = std::min(timeout, absl::Milliseconds(kMaxWaitMs));
  return SteadyClock::now() + absl::ToChronoNanoseconds(bounded);
}

// OK when `socket` is ready for `events` or has an error to report.
absl::Status WaitReady(int socket, short events, SteadyTime deadline) {
  for (;;) {
    // Rounded up, so that a wait never spins through its last millisecond.
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - SteadyClock::now());
    const auto left_ms = std::clamp<int64_t>(left.count(), 0, kMaxWaitMs);
    pollfd entry{.fd = socket, .events = events, .revents = 0};
    const int ready = poll(&entry, 1, static_cast<int>(left_ms));
    if (ready > 0) return absl::OkStatus();
    if (ready < 0 && errno != EINTR)
      return absl::UnavailableError(absl::StrFormat("poll: %s", std::strerror(errno)));
    if (SteadyClock::now() >= deadline)
      return absl::DeadlineExceededError("plan channel: no progress in time");
  }
}

// The part of `buffers` that is left when `sent` bytes are gone.
std::span<iovec> Advance(std::span<iovec> buffers, size_t sent) {
  while (!buffers.empty() && sent >= buffers.front().iov_len) {
    sent -= buffers.front().iov_len;
    buffers = buffers.subspan(1);
  }
  if (!buffers.empty()) {
    buffers.front().iov_base = static_cast<std::byte*>(buffers.front().iov_base) + sent;
    buffers.front().iov_len -= sent;
  }
  return buffers;
}

absl::Status SendMessage(int socket, std::span<const std::byte> plan, SteadyTime deadline) {
  auto length = static_cast<uint32_t>(plan.size());
  std::array<iovec, 2> parts{
      iovec{.iov_base = &length, .iov_len = kLengthBytes},
      iovec{.iov_base = const_cast<std::byte*>(plan.data()), .iov_len = plan.size()}};
  std::span<iovec> rest(parts);
  while (!rest.empty()) {
    msghdr message{};
    message.msg_iov = rest.data();
    message.msg_iovlen = rest.size();
    const ssize_t sent = sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      rest = Advance(rest, static_cast<size_t>(sent));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      PHI_RETURN_IF_ERROR(WaitReady(socket, POLLOUT, deadline));
    } else if (errno != EINTR) {
      return absl::UnavailableError(absl::StrFormat("plan channel: %s", std::strerror(errno)));
    }
  }
  return absl::OkStatus();
}

}  // namespace

PlanSender::PlanSender(std::vector<int> sockets) : sockets_(std::move(sockets)) {}

PlanSender::~PlanSender() {
  for (const int socket : sockets_) close(socket);
}

absl::Status PlanSender::Send(const StepPlan& plan, absl::Duration timeout) {
  return SendBytes(EncodeStepPlan(plan), timeout);
}

absl::Status PlanSender::SendBytes(std::span<const std::byte> bytes, absl::Duration timeout) {
  if (bytes.size() > kMaxPlanBytes) {
    return absl::InvalidArgumentError(absl::StrFormat("step plan of %d bytes", bytes.size()));
  }
  const SteadyTime deadline = DeadlineIn(timeout);
  for (size_t i = 0; i < sockets_.size(); ++i) {
    if (absl::Status status = SendMessage(sockets_[i], bytes, deadline); !status.ok()) {
      return absl::Status(status.code(),
                          absl::StrFormat("to rank %d: %s", i + 1, std::string(status.message())));
    }
  }
  return absl::OkStatus();
}

PlanReceiver::PlanReceiver(int socket) : socket_(socket) {}

PlanReceiver::~PlanReceiver() { close(socket_); }

absl::Status PlanReceiver::Fill(size_t size, SteadyTime deadline) {
  while (message_.size() < size) {
    const size_t old_size = message_.size();
    message_.resize(old_size + std::min(kReadBytes, size - old_size));
    const ssize_t got =
        recv(socket_, message_.data() + old_size, message_.size() - old_size, MSG_DONTWAIT);
    const int error = errno;
    message_.resize(old_size + static_cast<size_t>(std::max<ssize_t>(got, 0)));
    if (got == 0 && old_size == 0)
      return absl::CancelledError("the leader closed the plan channel");
    if (got == 0) return absl::UnavailableError("plan channel: the leader went within a plan");
    if (got > 0 || error == EINTR) continue;
    if (error != EAGAIN && error != EWOULDBLOCK) {
      return absl::UnavailableError(absl::StrFormat("plan channel: %s", std::strerror(error)));
    }
    PHI_RETURN_IF_ERROR(WaitReady(socket_, POLLIN, deadline));
  }
  return absl::OkStatus();
}

absl::StatusOr<StepPlan> PlanReceiver::Receive(absl::Duration timeout) {
  PHI_ASSIGN_OR_RETURN(const std::vector<std::byte> bytes, ReceiveBytes(timeout));
  return DecodeStepPlan(bytes);
}

absl::StatusOr<std::vector<std::byte>> PlanReceiver::ReceiveBytes(absl::Duration timeout) {
  const SteadyTime deadline = DeadlineIn(timeout);
  PHI_RETURN_IF_ERROR(Fill(kLengthBytes, deadline));
  uint32_t length = 0;
  std::memcpy(&length, message_.data(), kLengthBytes);
  if (length > kMaxPlanBytes) {
    return absl::InvalidArgumentError(absl::StrFormat("step plan of %u bytes", length));
  }
  PHI_RETURN_IF_ERROR(Fill(kLengthBytes + length, deadline));
  std::vector<std::byte> bytes(message_.begin() + kLengthBytes, message_.end());
  message_.clear();
  return bytes;
}

}  // namespace phi::shard
