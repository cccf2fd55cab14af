#include "service/worker/group/rank_group.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/strings/str_format.h"
#include "kernels/base/status_macros.h"
#include "service/telemetry/logging.h"
#include "service/worker/group/await_exit.h"

extern char** environ;

namespace phi::service {
namespace {

constexpr absl::Duration kReapLimit = absl::Seconds(10);

void CloseAll(std::vector<int>& fds) {
  for (int fd : fds) close(fd);
  fds.clear();
}

// Where Gloo's ranks find each other. Memory rather than a disk: a container's root is often
// read-only, its /dev/shm never.
absl::StatusOr<std::string> MakeRendezvousDir() {
  const char* asked = std::getenv("TMPDIR");
  const std::string base = asked != nullptr                ? asked
                           : access("/dev/shm", W_OK) == 0 ? "/dev/shm"
                                                           : "/tmp";
  std::string path = base + "/phi-worker-XXXXXX";
  if (mkdtemp(path.data()) == nullptr)
    return absl::ErrnoToStatus(errno, absl::StrFormat("making %s", path));
  return path;
}

// Owns the two objects of posix_spawn.
class SpawnSettings {
 public:
  SpawnSettings() {
    posix_spawn_file_actions_init(&actions_);
    posix_spawnattr_init(&attributes_);
    // The supervisor reads its signals from a descriptor; a rank starts with none blocked. Its own
    // process group keeps a terminal's Ctrl-C with the supervisor.
    sigset_t none;
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attributes_, &none);
    posix_spawnattr_setpgroup(&attributes_, 0);
    posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
  }
  ~SpawnSettings() {
    posix_spawn_file_actions_destroy(&actions_);
    posix_spawnattr_destroy(&attributes_);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;

  // Every other descriptor is close-on-exec; a dup to itself lets this one through.
  void Inherit(int fd) { posix_spawn_file_actions_adddup2(&actions_, fd, fd); }

  const posix_spawn_file_actions_t* actions() const { return &actions_; }
  const posix_spawnattr_t* attributes() const { return &attributes_; }

 private:
  posix_spawn_file_actions_t actions_;
  posix_spawnattr_t attributes_;
};

}  // namespace

bool RankExit::by_signal() const { return WIFSIGNALED(wait_status); }

int RankExit::exit_code() const { return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -1; }

std::string RankExit::what() const {
  if (by_signal()) return absl::StrFormat("was killed by signal %d", WTERMSIG(wait_status));
  return absl::StrFormat("exited with %d", exit_code());
}

RankExit FirstCause(const std::vector<RankExit>& exits) {
  const auto weight = [](const RankExit& exit) {
    return exit.by_signal() ? 2 : exit.exit_code() != 0 ? 1 : 0;
  };
  return *std::max_element(exits.begin(), exits.end(), [&](const RankExit& a, const RankExit& b) {
    return weight(a) < weight(b);
  });
}

absl::StatusOr<std::unique_ptr<RankGroup>> RankGroup::Spawn(const RankSpec& spec) {
  PHI_ASSIGN_OR_RETURN(SharedGroupPage page, SharedGroupPage::Create());
  std::unique_ptr<RankGroup> group(new RankGroup(std::move(page)));
  // A rank alone meets nobody, and a container of it may have no folder to write to.
  if (spec.world_size > 1) {
    PHI_ASSIGN_OR_RETURN(group->rendezvous_dir_, MakeRendezvousDir());
  }
  PHI_RETURN_IF_ERROR(group->MakeChannels(spec.world_size));
  for (int rank = 0; rank < spec.world_size; ++rank) {
    RankSpec one = spec;
    one.rank = rank;
    PHI_RETURN_IF_ERROR(group->SpawnRank(std::move(one)));
  }
  group->CloseChildEnds();
  return group;
}

absl::Status RankGroup::MakeChannels(int world_size) {
  for (int rank = 0; rank < world_size; ++rank) {
    int lifeline[2];
    if (pipe2(lifeline, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "pipe");
    lifeline_reads_.push_back(lifeline[0]);
    lifeline_writes_.push_back(lifeline[1]);
    if (rank == 0) continue;
    int plans[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, plans) != 0)
      return absl::ErrnoToStatus(errno, "socketpair");
    leader_plan_fds_.push_back(plans[0]);
    follower_plan_fds_.push_back(plans[1]);
  }
  return absl::OkStatus();
}

absl::Status RankGroup::SpawnRank(RankSpec spec) {
  const auto rank = static_cast<size_t>(spec.rank);
  spec.group_fd = page_.fd();
  spec.lifeline_fd = lifeline_reads_[rank];
  spec.plan_fds = rank == 0 ? leader_plan_fds_ : std::vector<int>{follower_plan_fds_[rank - 1]};
  spec.rendezvous_dir = rendezvous_dir_;

  SpawnSettings settings;
  for (int fd : {spec.metric_fd, spec.group_fd, spec.lifeline_fd}) settings.Inherit(fd);
  for (int fd : spec.plan_fds) settings.Inherit(fd);

  std::string program = "phi-worker";
  std::string argument(kRankProcessArgument);
  std::string text = EncodeRankSpec(spec);
  char* const arguments[] = {program.data(), argument.data(), text.data(), nullptr};
  pid_t pid = 0;
  const int error = posix_spawn(
      &pid, spec.program.c_str(), settings.actions(), settings.attributes(), arguments, environ);
  if (error != 0) return absl::ErrnoToStatus(error, absl::StrFormat("starting rank %d", spec.rank));
  pids_.push_back(pid);
  return absl::OkStatus();
}

void RankGroup::CloseChildEnds() {
  CloseAll(leader_plan_fds_);
  CloseAll(follower_plan_fds_);
  CloseAll(lifeline_reads_);
}

RankGroup::~RankGroup() {
  Kill();
  Reap();
  CloseChildEnds();
  CloseAll(lifeline_writes_);
  std::error_code ignored;
  if (!rendezvous_dir_.empty()) std::filesystem::remove_all(rendezvous_dir_, ignored);
}

void RankGroup::NoteExit(pid_t pid, int wait_status) {
  const auto found = std::find(pids_.begin(), pids_.end(), pid);
  if (pid <= 0 || found == pids_.end()) return;
  *found = 0;
  exits_.push_back({.rank = static_cast<int>(found - pids_.begin()), .wait_status = wait_status});
}

void RankGroup::AskToDrain() {
  const char byte = 'D';
  // A leader that cannot be written to has ended, which its exit shows.
  if (write(lifeline_writes_.front(), &byte, 1) < 0) return;
}

void RankGroup::Kill() {
  for (pid_t pid : pids_) {
    if (pid > 0) kill(pid, SIGKILL);
  }
}

void RankGroup::Reap() {
  for (const pid_t pid : std::vector<pid_t>(pids_)) {
    if (pid <= 0) continue;
    if (const auto wait_status = AwaitExit(pid, kReapLimit); wait_status.has_value()) {
      NoteExit(pid, *wait_status);
    } else {
      LogError("a killed rank does not end: its driver or disk does not let it go", {{"pid", pid}});
    }
  }
}

bool RankGroup::IsStopped(int rank) const {
  std::ifstream file(absl::StrFormat("/proc/%d/stat", pid(rank)));
  std::string line;
  std::getline(file, line);
  // The state follows the name, which is in brackets and may hold any character.
  const size_t name_end = line.rfind(')');
  return name_end != std::string::npos && name_end + 2 < line.size() &&
         (line[name_end + 2] == 'T' || line[name_end + 2] == 't');
}

}  // namespace phi::service
