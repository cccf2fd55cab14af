#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace phi::service {

// What --replicas says: fixed addresses, and names that are looked up again and again because
// replicas come and go behind them.
struct ReplicaList {
  struct Name {
    std::string host;
    std::string port;
  };
  std::vector<std::string> addresses;  // "host:port"
  std::vector<Name> names;             // of "dns:///host:port"
};

// INVALID_ARGUMENT naming the entry that is neither HOST:PORT nor dns:///NAME:PORT; an empty list
// is one, too.
absl::StatusOr<ReplicaList> ParseReplicaList(std::string_view text);

// All addresses behind the name now, as "192.0.2.1:50052" or "[2001:db8::1]:50052", sorted, each
// once. UNAVAILABLE where the look-up failed (then what was known before stays true). Blocks as
// long as the system's resolver does.
absl::StatusOr<std::vector<std::string>> LookUp(const ReplicaList::Name& name);

}  // namespace phi::service
