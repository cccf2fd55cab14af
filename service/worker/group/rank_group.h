#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "service/worker/group/group_page.h"
#include "service/worker/group/rank_spec.h"

namespace phi::service {

// One rank's end, as waitpid() tells it.
struct RankExit {
  int rank = 0;
  int wait_status = 0;

  bool by_signal() const;
  int exit_code() const;     // -1 by a signal
  std::string what() const;  // "exited with 65", "was killed by signal 9"
};

// Of several ranks that ended together the one to name: the others may have ended because it did. A
// signal weighs more than an error, an error more than an orderly end.
RankExit FirstCause(const std::vector<RankExit>& exits);

// The rank processes of one epoch and what they share: socket pairs for plans, a page of memory, a
// folder to find each other. No process is left and no descriptor open when it is gone.
//
// Threads: one, the process's main thread: the kernel ends a rank when the thread that started it
// ends.
class RankGroup {
 public:
  // Starts spec.world_size processes of spec.program; the fields that differ between ranks,
  // and the descriptors, are filled in here. `metric_fd` stays the caller's.
  static absl::StatusOr<std::unique_ptr<RankGroup>> Spawn(const RankSpec& spec);
  ~RankGroup();
  RankGroup(const RankGroup&) = delete;
  RankGroup& operator=(const RankGroup&) = delete;

  // Notes that process `pid` ended; nothing where it is none of this group.
  void NoteExit(pid_t pid, int wait_status);
  const std::vector<RankExit>& exits() const { return exits_; }
  bool all_ended() const { return exits_.size() == pids_.size(); }

  // Asks the leader to drain; the followers end with it.
  void AskToDrain();
  // SIGKILL to all, at once and before anything is waited for: a rank cannot outlive another (I5).
  void Kill();
  // Waits for what Kill() left, for a bounded time: who does not end is left to ReapChildren.
  void Reap();

  pid_t pid(int rank) const { return pids_[static_cast<size_t>(rank)]; }  // 0 once it ended
  // Whether a signal has stopped the process.
  bool IsStopped(int rank) const;
  const GroupPage& page() const { return *page_; }
  int64_t spawned_ns() const { return spawned_ns_; }

 private:
  explicit RankGroup(SharedGroupPage page)
      : page_(std::move(page)), spawned_ns_(MonotonicNanos()) {}
  absl::Status MakeChannels(int world_size);
  absl::Status SpawnRank(RankSpec spec);
  void CloseChildEnds();

  SharedGroupPage page_;
  const int64_t spawned_ns_;
  std::string rendezvous_dir_;
  std::vector<pid_t> pids_;
  std::vector<RankExit> exits_;
  std::vector<int> leader_plan_fds_;    // closed here once the leader has them
  std::vector<int> follower_plan_fds_;  // likewise
  std::vector<int> lifeline_reads_;     // likewise
  std::vector<int> lifeline_writes_;    // ours: their end is the ranks' end
};

}  // namespace phi::service
