#include <string_view>

#include "service/access/openssl_cleanup.h"
#include "service/api/deadlock_detection.h"
#include "service/worker/device/device_probe.h"
#include "service/worker/group/rank_process.h"
#include "service/worker/group/rank_spec.h"
#include "service/worker/supervisor.h"
#include "service/worker/worker_flags.h"

// phi-worker: the supervisor, or a process that it starts from this same program: one of the ranks,
// or one that looks for GPUs.
int main(int argc, char** argv) {
  using namespace phi::service;
  SkipDeadlockDetectionInRelease();
  SkipOpenSslCleanup();
  if (argc == 3 && argv[1] == kRankProcessArgument)
    return static_cast<int>(RunRankProcess(argv[2]));
  if (argc == 2 && argv[1] == kDeviceProbeArgument) return static_cast<int>(RunDeviceProbe());
  WorkerOptions options;
  if (const auto exit_code = ParseWorkerFlags(argc, argv, &options))
    return static_cast<int>(*exit_code);
  return static_cast<int>(RunSupervisor(options));
}
