#pragma once

#include <grpcpp/support/server_callback.h>

#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "phi/worker/v1/worker.grpc.pb.h"
#include "service/api/steady_clock.h"

namespace phi::service {

// Tells every WatchStatus caller how the replica is: at once, at a change, and every 500 ms at
// least. One thread looks; a watcher with a write under way gets the newest status after it, never
// a queue of old ones (I6).
class StatusBoard {
 public:
  using Status = phi::worker::v1::ReplicaStatus;

  // `read` gives the present status; called by the board's thread and by new watchers.
  explicit StatusBoard(std::function<Status()> read);
  ~StatusBoard();

  // A new caller's reactor; it deletes itself.
  grpc::ServerWriteReactor<Status>* AddWatcher() ABSL_LOCKS_EXCLUDED(mutex_);
  // Ends all watchers, those that come later too. Callable once more.
  void Stop() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  class Watcher;

  void Run() ABSL_LOCKS_EXCLUDED(mutex_);
  void Remove(Watcher* watcher) ABSL_LOCKS_EXCLUDED(mutex_);

  const std::function<Status()> read_;
  absl::Mutex mutex_;
  std::list<Watcher*> watchers_ ABSL_GUARDED_BY(mutex_);
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  SteadyCondition changed_;  // stopped_
  std::thread thread_;
};

}  // namespace phi::service
