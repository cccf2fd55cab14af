// phi-serve: a router and one worker in one command, for a laptop.
#include <civetweb.h>
#include <signal.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <thread>

#include "service/api/exit_code.h"
#include "service/api/flags.h"
#include "service/serve/child_process.h"
#include "service/serve/launch_plan.h"

namespace phi::service {
namespace {

int Fail(ExitCode code, const std::string& message) {
  std::fprintf(stderr, "phi-serve: %s\n", message.c_str());
  return static_cast<int>(code);
}

void PrintHelp() {
  std::printf(
      "Usage: phi-serve --model DIR [flags]\n\nA router and one worker in one command. Flags, with "
      "their defaults:\n\n");
  for (const FlagRow& row : FlagTable()) {
    const bool of_worker_only = row.programs == static_cast<uint8_t>(Program::kWorker);
    const bool decided_here = row.name == "replicas" || row.name == "replica_tls_ca" ||
                              (of_worker_only && (row.name == "listen" || row.name == "model"));
    if (decided_here) continue;
    const std::string flag = "--" + std::string(row.name) + " " + std::string(row.value);
    const std::string suffix =
        row.default_value.empty() ? "" : " [" + std::string(row.default_value) + "]";
    std::printf("  %-32s %s%s\n", flag.c_str(), std::string(row.meaning).c_str(), suffix.c_str());
  }
}

std::string Beside(const char* program) {
  std::error_code error;
  return (std::filesystem::read_symlink("/proc/self/exe", error).parent_path() / program).string();
}

// Asked by HTTP, which needs no certificate and no token.
bool IsReady(const std::string& metrics_address) {
  const size_t colon = metrics_address.rfind(':');
  std::string host = metrics_address.substr(0, colon);
  if (host.starts_with('[')) host = host.substr(1, host.size() - 2);
  std::array<char, 128> error = {};
  mg_connection* answer = mg_download(host.c_str(),
                                      std::stoi(metrics_address.substr(colon + 1)),
                                      0,
                                      error.data(),
                                      error.size(),
                                      "GET /readyz HTTP/1.0\r\n\r\n");
  if (answer == nullptr) return false;
  const mg_response_info* info = mg_get_response_info(answer);
  const bool ready = info != nullptr && info->status_code == 200;
  mg_close_connection(answer);
  return ready;
}

// Says where to go once the first call could be answered.
void AnnounceWhenReady(const LaunchPlan& plan, const std::stop_token& ended) {
  while (!ended.stop_requested() && !IsReady(plan.router_metrics))
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  if (ended.stop_requested()) return;
  std::printf(
      "phi-serve is ready.\n"
      "  gRPC     %s\n"
      "  metrics  http://%s/metrics (router), http://%s/metrics (worker)\n"
      "  try      %s generate --address %s%s 'def print_prime(n):'\n",
      plan.listen.c_str(),
      plan.router_metrics.c_str(),
      plan.worker_metrics.c_str(),
      Beside("phictl").c_str(),
      plan.listen.c_str(),
      plan.tls ? " --tls-ca CA.pem" : "");
  std::fflush(stdout);
}

struct Children {
  pid_t router = 0;  // 0: ended
  pid_t worker = 0;
};

void Send(pid_t child, int number) {
  if (child != 0) kill(child, number);
}

// Takes what ended; returns its exit code, or -1 when nothing has.
int ReapOne(Children& children) {
  int wait_status = 0;
  const pid_t ended = waitpid(-1, &wait_status, WNOHANG);
  if (ended <= 0) return -1;
  if (ended == children.router) children.router = 0;
  if (ended == children.worker) children.worker = 0;
  return ExitCodeOf(wait_status);
}

// Until both children have ended. The router goes first, so that the worker is there for what it
// still drains; a second signal reaches both at once. The result is the exit code of whichever
// failed first.
int Supervise(Children children, const sigset_t& signals) {
  int result = 0;
  bool ending = false;
  while (children.router != 0 || children.worker != 0) {
    int number = 0;
    (void)sigwait(&signals, &number);
    if (number != SIGCHLD) {
      Send(children.router != 0 ? children.router : children.worker, SIGTERM);
      if (ending) Send(children.worker, SIGTERM);
      ending = true;
      continue;
    }
    for (int code = ReapOne(children); code >= 0; code = ReapOne(children)) {
      if (result == 0) result = code;
      if (!ending && result == 0)
        result = static_cast<int>(ExitCode::kInternal);  // nobody asked it to end
      ending = true;
      if (children.router == 0) Send(children.worker, SIGTERM);
      if (children.worker == 0) Send(children.router, SIGTERM);
    }
  }
  return result;
}

int Run(const LaunchPlan& plan) {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : {SIGTERM, SIGINT, SIGCHLD}) sigaddset(&signals, number);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  Children children;
  const auto worker = StartChild(Beside("phi-worker"), plan.worker_args);
  if (!worker.ok()) return Fail(ExitCode::kInternal, std::string(worker.status().message()));
  children.worker = *worker;
  const auto router = StartChild(Beside("phi-router"), plan.router_args);
  if (!router.ok()) {
    Send(children.worker, SIGTERM);
    return Fail(ExitCode::kInternal, std::string(router.status().message()));
  }
  children.router = *router;
  // Only after the forks.
  const std::jthread announcer(
      [&plan](const std::stop_token& ended) { AnnounceWhenReady(plan, ended); });
  return Supervise(children, signals);
}

}  // namespace
}  // namespace phi::service

int main(int argc, char** argv) {
  using namespace phi::service;  // NOLINT(google-build-using-namespace): the program is this
                                 // namespace
  const auto plan = MakeLaunchPlan(std::vector<std::string>(argv + 1, argv + argc), FreePort);
  if (!plan.ok())
    return Fail(ExitCode::kUsage, std::string(plan.status().message()) + " (see phi-serve --help)");
  if (plan->help) return PrintHelp(), 0;
  if (plan->version) return std::printf("phi-serve %s\n", PHI_VERSION), 0;
  return Run(*plan);
}
