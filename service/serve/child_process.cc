#include "service/serve/child_process.h"

#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "service/api/exit_code.h"

namespace phi::service {

absl::StatusOr<pid_t> StartChild(const std::string& program, const std::vector<std::string>& args) {
  if (access(program.c_str(), X_OK) != 0) {
    return absl::UnavailableError("cannot start " + program + ": it has to lie beside phi-serve");
  }
  // Everything that allocates happens before the fork.
  std::vector<std::string> words = {std::filesystem::path(program).filename().string()};
  words.insert(words.end(), args.begin(), args.end());
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child < 0) return absl::UnavailableError("cannot start " + program);
  if (child > 0) return child;
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(static_cast<int>(ExitCode::kInternal));  // it died before prctl
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  execv(program.c_str(), argv.data());
  _exit(static_cast<int>(ExitCode::kInternal));
}

int ExitCodeOf(int wait_status) {
  return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : static_cast<int>(ExitCode::kInternal);
}

int FreePort() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return 0;
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t bytes = sizeof(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  const bool known = bind(fd, generic, bytes) == 0 && getsockname(fd, generic, &bytes) == 0;
  close(fd);
  return known ? ntohs(address.sin_port) : 0;
}

}  // namespace phi::service
