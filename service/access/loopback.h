#pragma once

#include <sys/socket.h>

#include <string_view>

namespace phi::service {

// Whether only this machine reaches what listens there.
bool IsLoopback(const sockaddr& address);

// The same of HOST:PORT, where HOST is "localhost" or an address; any other name may be anything.
bool IsLoopback(std::string_view host_and_port);

}  // namespace phi::service
