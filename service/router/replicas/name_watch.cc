#include "service/router/replicas/name_watch.h"

#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "service/api/steady_clock.h"
#include "service/telemetry/logging.h"

namespace phi::service {

struct NameWatch::State {
  explicit State(Options given) : options(std::move(given)) {}

  const Options options;
  absl::Mutex mutex;  // held while on_found is called
  bool ending ABSL_GUARDED_BY(mutex) = false;
  bool looking ABSL_GUARDED_BY(mutex) = false;
  SteadyCondition changed;
};

NameWatch::NameWatch(Options options)
    : state_(std::make_shared<State>(std::move(options))),
      thread_([state = state_] { Run(state); }) {}

NameWatch::~NameWatch() {
  bool looking = false;
  {
    const absl::MutexLock lock(&state_->mutex);
    state_->ending = true;
    looking = state_->looking;
  }
  state_->changed.NotifyAll();
  if (looking) {
    thread_.detach();
  } else {
    thread_.join();
  }
}

// The error names the one that was not found.
absl::StatusOr<NameWatch::Addresses> NameWatch::LookUpAll(const Options& options) {
  Addresses addresses;
  for (const ReplicaList::Name& name : options.names) {
    const auto found = options.look_up(name);
    if (!found.ok()) return absl::Status(found.status().code(), name.host);
    for (const std::string& address : *found) addresses.try_emplace(address, name.host);
  }
  return addresses;
}

void NameWatch::Run(const std::shared_ptr<State>& state) {
  while (true) {
    {
      const absl::MutexLock lock(&state->mutex);
      if (state->ending) return;
      state->looking = true;
    }
    const absl::StatusOr<Addresses> addresses = LookUpAll(state->options);
    const absl::MutexLock lock(&state->mutex);
    state->looking = false;
    if (state->ending) return;
    if (addresses.ok()) {
      state->options.on_found(*addresses);
    } else {
      LogWarning("replica look-up failed; what is known stays",
                 {{"name", std::string(addresses.status().message())}});
    }
    const auto ending = [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return state->ending; };
    state->changed.WaitUntil(state->mutex, After(SteadyNow(), state->options.interval), ending);
  }
}

}  // namespace phi::service
