#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "service/router/replicas/replica_list.h"

namespace phi::service {

// Looks names up again and again, on a thread of its own: the system's resolver takes as long as it
// likes, and cannot be stopped.
class NameWatch {
 public:
  // By address, the name it was found behind.
  using Addresses = std::map<std::string, std::string>;
  struct Options {
    std::vector<ReplicaList::Name> names;
    absl::Duration interval = absl::Seconds(5);
    // Told of all addresses after each look-up in which every name was found; what was known before
    // stays true after the others. One call at a time, none after the destructor.
    std::function<void(const Addresses&)> on_found;
    std::function<absl::StatusOr<std::vector<std::string>>(const ReplicaList::Name&)> look_up =
        LookUp;
  };

  explicit NameWatch(Options options);
  // Waits for on_found, not for a look-up: one under way is left to end by itself.
  ~NameWatch();
  NameWatch(const NameWatch&) = delete;
  NameWatch& operator=(const NameWatch&) = delete;

 private:
  struct State;
  static void Run(const std::shared_ptr<State>& state);
  static absl::StatusOr<Addresses> LookUpAll(const Options& options);

  std::shared_ptr<State> state_;  // the thread's too, which may outlive this
  std::thread thread_;
};

}  // namespace phi::service
