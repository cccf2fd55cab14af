#include "service/access/self_probe.h"

#include <netdb.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>

#include "service/api/exit_code.h"
#include "service/telemetry/logging.h"

namespace phi::service {
namespace {

// No HTTP/2 preface and no TLS hello: either kind of server closes the connection at once.
constexpr std::string_view kQuestion = "phi-serve asks itself\r\n\r\n";

bool Await(int fd, short events, absl::Duration timeout) {
  pollfd wanted = {.fd = fd, .events = events, .revents = 0};
  return poll(&wanted, 1, static_cast<int>(absl::ToInt64Milliseconds(timeout))) == 1;
}

}  // namespace

SelfProbe::SelfProbe(Options options)
    : options_(std::move(options)),
      address_(Resolve(options_)),
      thread_(options_.interval, [this] { Look(); }) {}

SelfProbe::Address SelfProbe::Resolve(const Options& options) {
  std::string host = options.listen.substr(0, options.listen.rfind(':'));
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  Address address;
  if (getaddrinfo(host.c_str(), std::to_string(options.port).c_str(), &hints, &found) != 0) {
    LogWarning("the gRPC port is not watched: its host cannot be looked up");
    return address;
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, freeaddrinfo);
  std::memcpy(&address.storage, found->ai_addr, found->ai_addrlen);
  address.size = found->ai_addrlen;
  return address;
}

void SelfProbe::Look() {
  failures_ = Answers() ? 0 : failures_ + 1;
  if (failures_ >= options_.max_failures) options_.on_stuck();
}

bool SelfProbe::Answers() const {
  if (address_.size == 0) return true;
  const int fd = socket(address_.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  const auto* address = reinterpret_cast<const sockaddr*>(&address_.storage);
  char byte = 0;
  const bool connected = connect(fd, address, address_.size) == 0 ||
                         (errno == EINPROGRESS && Await(fd, POLLOUT, options_.timeout));
  const bool answered =
      connected && send(fd, kQuestion.data(), kQuestion.size(), MSG_NOSIGNAL) > 0 &&
      Await(fd, POLLIN, options_.timeout) && (recv(fd, &byte, 1, 0) >= 0 || errno == ECONNRESET);
  close(fd);
  return answered;
}

void EndStuckProcess() {
  LogError("the gRPC port does not answer any more: ending, to be started again",
           {{"exit_code", static_cast<int>(ExitCode::kInternal)}});
  _exit(static_cast<int>(ExitCode::kInternal));
}

}  // namespace phi::service
