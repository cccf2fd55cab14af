#include "tools/bench/rank_processes.h"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <utility>

#include "kernels/base/status_macros.h"
#include "shard/collective/gloo_communicator.h"
#include "shard/collective/single_rank_communicator.h"
#include "shard/plan_channel.h"
#include "tools/bench/timing.h"

namespace phi::bench {
namespace {

constexpr shard::RankLimits kLimits = {
    .max_sequences = 16, .max_step_tokens = 512, .num_kv_blocks = 160};
constexpr absl::Duration kPlanTimeout = absl::Minutes(5);

struct ReadyReply {
  size_t planned_bytes = 0;
};

[[noreturn]] void Die(const std::string& what) {
  std::fprintf(stderr, "rank_bench: %s\n", what.c_str());
  std::exit(1);
}

void Check(const absl::Status& status) {
  if (!status.ok()) Die(status.ToString());
}

template <class Value>
void Write(int socket, const Value& value) {
  if (send(socket, &value, sizeof value, MSG_NOSIGNAL) != sizeof value) Die("a rank is gone");
}

// False at the end of the channel.
template <class Value>
bool Read(int socket, Value* value) {
  return recv(socket, value, sizeof *value, MSG_WAITALL) == sizeof *value;
}

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Sockets {
  std::vector<int> leader_side;  // one a follower
  std::vector<int> follower_side;
};

Sockets MakeSockets(int followers) {
  Sockets sockets;
  for (int i = 0; i < followers; ++i) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) Die("no socket pair");
    sockets.leader_side.push_back(pair[0]);
    sockets.follower_side.push_back(pair[1]);
  }
  return sockets;
}

std::unique_ptr<shard::Rank> MakeRank(const GroupShape& shape,
                                      int rank,
                                      const std::string& store_dir,
                                      shard::RankProgress* progress) {
  auto backend = kernels::MakeCpuBackend(shape.cpu);
  Check(backend.status());
  std::unique_ptr<shard::Communicator> communicator = shard::MakeSingleRankCommunicator();
  if (shape.world_size > 1) {
    auto gloo = shard::MakeGlooCommunicator(rank, shape.world_size, {.store_dir = store_dir});
    Check(gloo.status());
    communicator = std::move(*gloo);
  }
  const shard::RankOptions options = {
      .model_dir = shape.model_dir, .num_real_tokens = 1, .limits = kLimits};
  auto made = shard::Rank::Create(options, std::move(*backend), std::move(communicator), progress);
  Check(made.status());
  return std::move(*made);
}

// What the cache holds does not change how long a step takes, so nothing is prefilled.
shard::StepPlan PlanOf(const StepRequest& request) {
  shard::StepPlan plan;
  plan.token_ids.assign(size_t{request.batch} * request.rows, 0);
  const uint32_t blocks = kernels::NumKvBlocks(request.context + request.rows);
  for (uint32_t i = 0; i < request.batch; ++i) {
    shard::PlannedSequence sequence = {
        .num_tokens = request.rows, .first_position = request.context, .num_draws = 1};
    for (uint32_t block = 0; block < blocks; ++block)
      sequence.block_ids.push_back(i * blocks + block);
    plan.sequences.push_back(std::move(sequence));
  }
  return plan;
}

void Lead(const GroupShape& shape,
          const std::string& store_dir,
          std::vector<int> followers,
          int control) {
  shard::RankProgress progress;
  const auto rank = MakeRank(shape, 0, store_dir, &progress);
  shard::PlanSender sender(std::move(followers));
  uint64_t step = 0;
  const auto run = [&](const StepRequest& request) {
    shard::StepPlan plan = PlanOf(request);
    plan.step = step++;
    Check(sender.Send(plan, kPlanTimeout));
    Check(rank->Execute(plan).status());
  };
  run({});
  size_t planned = 0;
  for (int r = 0; r < shape.world_size; ++r) {
    planned +=
        shard::PlanMemory(
            rank->config(), **kernels::MakeCpuBackend(shape.cpu), kLimits, r, shape.world_size)
            .total();
  }
  Write(control, ReadyReply{planned});
  StepRequest request;
  while (Read(control, &request)) {
    std::vector<double> seconds;
    for (uint32_t i = 0; i < request.repeats; ++i)
      seconds.push_back(Seconds([&] { run(request); }));
    Write(control, Median(std::move(seconds)));
  }
}

void Follow(const GroupShape& shape, int rank_index, const std::string& store_dir, int socket) {
  shard::RankProgress progress;
  const auto rank = MakeRank(shape, rank_index, store_dir, &progress);
  shard::PlanReceiver receiver(socket);
  for (;;) {
    const auto plan = receiver.Receive(absl::Hours(1));
    if (!plan.ok()) return;
    Check(rank->Execute(*plan).status());
  }
}

}  // namespace

RankProcesses::RankProcesses(const GroupShape& shape) : started_(Now()) {
  std::string dir = (std::filesystem::temp_directory_path() / "rank_bench.XXXXXX").string();
  if (mkdtemp(dir.data()) == nullptr) Die("no temporary directory");
  store_dir_ = dir;
  int control[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, control) != 0) Die("no socket pair");
  const Sockets sockets = MakeSockets(shape.world_size - 1);
  for (int rank = 0; rank < shape.world_size; ++rank) {
    const pid_t pid = fork();
    if (pid < 0) Die("cannot fork");
    if (pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      close(control[0]);
      if (rank == 0) {
        for (const int fd : sockets.follower_side) close(fd);
        Lead(shape, store_dir_, sockets.leader_side, control[1]);
      } else {
        for (const int fd : sockets.leader_side) close(fd);
        Follow(shape, rank, store_dir_, sockets.follower_side[static_cast<size_t>(rank) - 1]);
      }
      _exit(0);
    }
    pids_.push_back(pid);
  }
  close(control[1]);
  for (const int fd : sockets.leader_side) close(fd);
  for (const int fd : sockets.follower_side) close(fd);
  control_ = control[0];
}

RankProcesses::~RankProcesses() {
  close(control_);
  for (const pid_t pid : pids_) kill(pid, SIGKILL);
  for (const pid_t pid : pids_) waitpid(pid, nullptr, 0);
  std::error_code ignored;
  std::filesystem::remove_all(store_dir_, ignored);
}

size_t RankProcesses::SumPss() const {
  size_t sum = 0;
  for (const pid_t pid : pids_) {
    std::ifstream rollup("/proc/" + std::to_string(pid) + "/smaps_rollup");
    std::string word;
    size_t kib = 0;
    while (rollup >> word) {
      if (word == "Pss:" && rollup >> kib) sum += kib * 1024;
    }
  }
  return sum;
}

GroupFigures RankProcesses::WaitReady() {
  GroupFigures figures;
  pollfd ready = {.fd = control_, .events = POLLIN, .revents = 0};
  while (poll(&ready, 1, 100) == 0)
    figures.peak_pss_bytes = std::max(figures.peak_pss_bytes, SumPss());
  ReadyReply reply;
  if (!Read(control_, &reply)) Die("a rank failed to start");
  figures.ready_seconds = Now() - started_;
  figures.planned_bytes = reply.planned_bytes;
  figures.ready_pss_bytes = SumPss();
  figures.peak_pss_bytes = std::max(figures.peak_pss_bytes, figures.ready_pss_bytes);
  return figures;
}

double RankProcesses::Run(const StepRequest& request) {
  Write(control_, request);
  double seconds = 0;
  if (!Read(control_, &seconds)) Die("a rank is gone");
  return seconds;
}

}  // namespace phi::bench
