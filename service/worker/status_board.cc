#include "service/worker/status_board.h"

#include <google/protobuf/util/message_differencer.h>

#include <chrono>
#include <utility>

#include "absl/time/time.h"
#include "service/api/error.h"
#include "service/api/grpc_status.h"

namespace phi::service {
namespace {

// How soon a change is told. A router that dispatches in between meets a refusal, not a wrong
// answer.
constexpr auto kLookInterval = std::chrono::milliseconds(20);
constexpr auto kTellInterval = std::chrono::milliseconds(500);

}  // namespace

class StatusBoard::Watcher final : public grpc::ServerWriteReactor<Status> {
 public:
  explicit Watcher(StatusBoard* board) : board_(board) {}

  void Tell(const Status& status) ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      absl::MutexLock lock(&mutex_);
      next_ = status;
    }
    Advance();
  }
  void End() ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      absl::MutexLock lock(&mutex_);
      ending_ = true;
    }
    Advance();
  }

  void OnWriteDone(bool ok) override {
    {
      absl::MutexLock lock(&mutex_);
      writing_ = false;
      ending_ = ending_ || !ok;
    }
    Advance();
  }
  void OnCancel() override { End(); }
  void OnDone() override {
    board_->Remove(this);
    delete this;
  }

 private:
  void Advance() ABSL_LOCKS_EXCLUDED(mutex_) {
    bool finish = false;
    {
      absl::MutexLock lock(&mutex_);
      if (writing_ || finished_ || (!ending_ && !next_)) return;
      finish = ending_;
      finished_ = finish;
      writing_ = !finish;
      if (writing_) {
        message_ = *std::move(next_);
        next_.reset();
      }
    }
    if (finish) {
      Finish(ToGrpcStatus(MakeError(ErrorReason::kDraining, "this replica ends")));
    } else {
      StartWrite(&message_);
    }
  }

  StatusBoard* const board_;
  absl::Mutex mutex_;
  std::optional<Status> next_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  Status message_;  // gRPC's while a write is under way
};

StatusBoard::StatusBoard(std::function<Status()> read)
    : read_(std::move(read)), thread_([this] { Run(); }) {}

StatusBoard::~StatusBoard() {
  Stop();
  thread_.join();
}

grpc::ServerWriteReactor<StatusBoard::Status>* StatusBoard::AddWatcher() {
  auto* watcher = new Watcher(this);
  const Status status = read_();
  // Under the lock, so that OnDone cannot delete it before it is told.
  absl::MutexLock lock(&mutex_);
  watchers_.push_back(watcher);
  if (stopped_) {
    watcher->End();
  } else {
    watcher->Tell(status);
  }
  return watcher;
}

void StatusBoard::Stop() {
  absl::MutexLock lock(&mutex_);
  stopped_ = true;
  changed_.NotifyAll();
  for (Watcher* watcher : watchers_) watcher->End();
}

void StatusBoard::Remove(Watcher* watcher) {
  absl::MutexLock lock(&mutex_);
  watchers_.remove(watcher);
}

void StatusBoard::Run() {
  Status told;
  auto told_at = std::chrono::steady_clock::now();
  for (;;) {
    const Status status = read_();
    const auto now = std::chrono::steady_clock::now();
    const bool tell = now - told_at >= kTellInterval ||
                      !google::protobuf::util::MessageDifferencer::Equals(status, told);
    absl::MutexLock lock(&mutex_);
    if (tell) {
      told = status;
      told_at = now;
      for (Watcher* watcher : watchers_) watcher->Tell(status);
    }
    const auto stopped = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return stopped_; };
    if (changed_.WaitUntil(mutex_, After(SteadyNow(), kLookInterval), stopped)) return;
  }
}

}  // namespace phi::service
