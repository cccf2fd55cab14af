#pragma once

#include <string>

namespace phi::service {

// What a server at 127.0.0.1:port sends in answer to `request`, until it closes; empty when it
// refuses the connection.
std::string HttpExchange(int port, const std::string& request);

// Connects and leaves the connection to the caller; -1 when refused.
int ConnectTo(int port);

}  // namespace phi::service
