#include "service/worker/group/listen_address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "absl/strings/str_format.h"
#include "service/access/loopback.h"

namespace phi::service {
namespace {

// The port that was bound, 0 where it could not be.
int BindOnce(const addrinfo& info) {
  const int fd = socket(info.ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return 0;
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  sockaddr_storage bound{};
  socklen_t size = sizeof(bound);
  int port = 0;
  // To listen is what fails where another process listens; to bind alone may succeed.
  if (bind(fd, info.ai_addr, info.ai_addrlen) == 0 && listen(fd, 1) == 0 &&
      getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &size) == 0) {
    port = ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(bound).sin6_port
                                             : reinterpret_cast<sockaddr_in&>(bound).sin_port);
  }
  close(fd);
  return port;
}

}  // namespace

absl::StatusOr<ListenAddress> ProbeListenAddress(const std::string& host_and_port) {
  const size_t colon = host_and_port.rfind(':');
  if (colon == std::string::npos || colon == 0) {
    return absl::InvalidArgumentError(absl::StrFormat("'%s' is not HOST:PORT", host_and_port));
  }
  const std::string host = host_and_port.substr(0, colon);
  const bool bracketed = host.front() == '[' && host.back() == ']';
  const std::string name = bracketed ? host.substr(1, host.size() - 2) : host;
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (getaddrinfo(name.c_str(), host_and_port.c_str() + colon + 1, &hints, &found) != 0) {
    return absl::InvalidArgumentError(absl::StrFormat("'%s' is not HOST:PORT", host_and_port));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> infos(found, freeaddrinfo);
  const int port = BindOnce(*infos);
  if (port == 0) {
    return absl::UnavailableError(
        absl::StrFormat("cannot bind %s: %s", host_and_port, std::strerror(errno)));
  }
  return ListenAddress{.text = absl::StrFormat("%s:%d", host, port),
                       .loopback = IsLoopback(*infos->ai_addr)};
}

}  // namespace phi::service
