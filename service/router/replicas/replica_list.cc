#include "service/router/replicas/replica_list.h"

#include <netdb.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <memory>

namespace phi::service {
namespace {

constexpr std::string_view kDnsPrefix = "dns:///";

bool IsPort(std::string_view text) {
  uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size() && port != 0;
}

absl::Status AddEntry(std::string_view entry, ReplicaList& list) {
  const bool is_name = entry.substr(0, kDnsPrefix.size()) == kDnsPrefix;
  const std::string_view address = is_name ? entry.substr(kDnsPrefix.size()) : entry;
  const size_t colon = address.rfind(':');
  if (colon == std::string_view::npos || colon == 0 || !IsPort(address.substr(colon + 1)) ||
      address.find('/') != std::string_view::npos) {
    return absl::InvalidArgumentError("--replicas takes HOST:PORT or dns:///NAME:PORT, not '" +
                                      std::string(entry) + "'");
  }
  if (is_name) {
    list.names.push_back(
        {std::string(address.substr(0, colon)), std::string(address.substr(colon + 1))});
  } else {
    list.addresses.emplace_back(address);
  }
  return absl::OkStatus();
}

std::string NumericAddress(const addrinfo& info) {
  std::array<char, NI_MAXHOST> host;
  std::array<char, NI_MAXSERV> port;
  if (getnameinfo(info.ai_addr,
                  info.ai_addrlen,
                  host.data(),
                  host.size(),
                  port.data(),
                  port.size(),
                  NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return "";
  }
  const std::string name(host.data());
  return (info.ai_family == AF_INET6 ? "[" + name + "]" : name) + ":" + port.data();
}

}  // namespace

absl::StatusOr<ReplicaList> ParseReplicaList(std::string_view text) {
  ReplicaList list;
  while (true) {
    const size_t comma = text.find(',');
    if (absl::Status status = AddEntry(text.substr(0, comma), list); !status.ok()) return status;
    if (comma == std::string_view::npos) return list;
    text.remove_prefix(comma + 1);
  }
}

absl::StatusOr<std::vector<std::string>> LookUp(const ReplicaList::Name& name) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(name.host.c_str(), name.port.c_str(), &hints, &found) != 0) {
    return absl::UnavailableError("cannot look up " + name.host);
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, &freeaddrinfo);
  std::vector<std::string> addresses;
  for (const addrinfo* info = found; info != nullptr; info = info->ai_next) {
    if (std::string address = NumericAddress(*info); !address.empty()) {
      addresses.push_back(std::move(address));
    }
  }
  std::sort(addresses.begin(), addresses.end());
  addresses.erase(std::unique(addresses.begin(), addresses.end()), addresses.end());
  return addresses;
}

}  // namespace phi::service
