#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "shard/collective/communicator.h"

namespace phi::shard {

// A directory that goes when it goes out of scope.
class TemporaryDir {
 public:
  TemporaryDir();
  ~TemporaryDir();
  TemporaryDir(const TemporaryDir&) = delete;
  TemporaryDir& operator=(const TemporaryDir&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Runs `body` once a rank, each on its own thread with its own communicator (Gloo, or the
// single-rank one), and returns when all are done. A communicator is destroyed when its body
// returns, as it is in a process that ends.
void RunRanks(int world_size,
              const std::function<void(std::unique_ptr<Communicator>)>& body,
              absl::Duration timeout = absl::Seconds(60));

}  // namespace phi::shard
