#include "service/worker/device/device_probe.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "kernels/base/status_macros.h"
#include "service/worker/device/cuda_program.h"
#include "service/worker/group/await_exit.h"

extern char** environ;

namespace phi::kernels {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(CudaDevice, name, instruction_set, free_bytes, problem)

}  // namespace phi::kernels

namespace phi::service {
namespace {

using Clock = std::chrono::steady_clock;
using nlohmann::json;

// A driver that has slept takes seconds a device to wake up.
constexpr std::chrono::seconds kProbeLimit{60};
constexpr size_t kMaxAnswerBytes = size_t{64} << 10;

absl::StatusOr<pid_t> StartProbe(int write_fd) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_init(&attributes);
  posix_spawn_file_actions_adddup2(&actions, write_fd, STDOUT_FILENO);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  std::string program = "phi-worker";
  std::string argument(kDeviceProbeArgument);
  char* const arguments[] = {program.data(), argument.data(), nullptr};
  pid_t pid = 0;
  const int error =
      posix_spawn(&pid, CudaProgram().c_str(), &actions, &attributes, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) return absl::ErrnoToStatus(error, "starting the process that looks for GPUs");
  return pid;
}

// Until the end of file.
absl::StatusOr<std::string> ReadAnswer(int fd) {
  const auto deadline = Clock::now() + kProbeLimit;
  std::string answer;
  std::array<char, 4096> buffer;
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    pollfd entry{.fd = fd, .events = POLLIN, .revents = 0};
    const int ready = poll(&entry, 1, static_cast<int>(std::max<int64_t>(left.count(), 0)));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0 || answer.size() > kMaxAnswerBytes) {
      return absl::DeadlineExceededError(
          absl::StrFormat("looking for GPUs took more than %d s", kProbeLimit.count()));
    }
    const ssize_t got = read(fd, buffer.data(), buffer.size());
    if (got == 0) return answer;
    if (got > 0) answer.append(buffer.data(), static_cast<size_t>(got));
  }
}

absl::StatusOr<std::vector<kernels::CudaDevice>> ParseAnswer(const std::string& answer) {
  try {
    const json parsed = json::parse(answer);
    if (parsed.contains("error"))
      return absl::FailedPreconditionError(parsed.at("error").get<std::string>());
    return parsed.at("devices").get<std::vector<kernels::CudaDevice>>();
  } catch (const json::exception&) {
    return absl::InternalError("the process that looks for GPUs ended without an answer");
  }
}

}  // namespace

absl::StatusOr<std::vector<kernels::CudaDevice>> AskForCudaDevices() {
  if (CudaProgram().empty())
    return absl::FailedPreconditionError("this build has no CUDA backend (PHI_CUDA)");
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "pipe");
  const absl::StatusOr<pid_t> pid = StartProbe(fds[1]);
  close(fds[1]);
  absl::StatusOr<std::string> answer = pid.ok() ? ReadAnswer(fds[0]) : pid.status();
  close(fds[0]);
  if (pid.ok()) {
    kill(*pid, SIGKILL);
    static_cast<void>(AwaitExit(*pid, absl::Seconds(1)));
  }
  PHI_RETURN_IF_ERROR(answer.status());
  return ParseAnswer(*answer);
}

ExitCode RunDeviceProbe() {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const auto devices = kernels::ListCudaDevices();
  const json answer = devices.ok() ? json{{"devices", *devices}}
                                   : json{{"error", std::string(devices.status().message())}};
  const std::string text = answer.dump(-1, ' ', false, json::error_handler_t::replace);
  const bool said =
      write(STDOUT_FILENO, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  return said ? ExitCode::kOk : ExitCode::kInternal;
}

}  // namespace phi::service
