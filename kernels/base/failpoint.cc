#include "kernels/base/failpoint.h"

#ifdef PHI_WITH_FAILPOINTS
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"

namespace phi {
namespace {

enum class Action { kSleep, kError, kKill, kNan };

struct Failpoint {
  std::string name;
  Action action = Action::kError;
  uint32_t sleep_ms = 0;
  uint64_t first = 1;
  uint64_t last = std::numeric_limits<uint64_t>::max();
  uint64_t hits = 0;
};

using StringPair = std::pair<std::string, std::string>;

absl::Status Wrong(std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("not a failpoint: ", std::string(what)));
}

absl::Status ReadAction(const std::string& text, Failpoint& failpoint) {
  const StringPair parts = absl::StrSplit(text, absl::MaxSplits(':', 1));
  if (parts.first == "sleep" && absl::SimpleAtoi(parts.second, &failpoint.sleep_ms)) {
    failpoint.action = Action::kSleep;
  } else if (text == "error") {
    failpoint.action = Action::kError;
  } else if (text == "kill") {
    failpoint.action = Action::kKill;
  } else if (text == "nan") {
    failpoint.action = Action::kNan;
  } else {
    return Wrong(text);
  }
  return absl::OkStatus();
}

// FIRST-LAST, FIRST- or ONLY.
absl::Status ReadRange(const std::string& text, Failpoint& failpoint) {
  const StringPair parts = absl::StrSplit(text, absl::MaxSplits('-', 1));
  if (!absl::SimpleAtoi(parts.first, &failpoint.first) || failpoint.first == 0) return Wrong(text);
  if (text.find('-') == std::string::npos) failpoint.last = failpoint.first;
  if (!parts.second.empty() && !absl::SimpleAtoi(parts.second, &failpoint.last)) return Wrong(text);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Failpoint>> Read(std::string_view list) {
  std::vector<Failpoint> failpoints;
  std::vector<std::string> entries =
      absl::StrSplit(absl::string_view(list.data(), list.size()), ';', absl::SkipEmpty());
  for (const std::string& entry : entries) {
    const StringPair parts = absl::StrSplit(entry, absl::MaxSplits('=', 1));
    const StringPair action = absl::StrSplit(parts.second, absl::MaxSplits('@', 1));
    Failpoint& failpoint = failpoints.emplace_back();
    failpoint.name = parts.first;
    if (failpoint.name.empty()) return Wrong(entry);
    PHI_RETURN_IF_ERROR(ReadAction(action.first, failpoint));
    if (parts.second.find('@') != std::string::npos)
      PHI_RETURN_IF_ERROR(ReadRange(action.second, failpoint));
  }
  return failpoints;
}

class Failpoints {
 public:
  // Those of the process. Never destroyed: threads may come by while it ends.
  static Failpoints& Get() {
    static auto* failpoints = new Failpoints();
    return *failpoints;
  }

  void Set(std::vector<Failpoint> failpoints) {
    const std::lock_guard lock(mutex_);
    failpoints_ = std::move(failpoints);
  }

  // The one that takes effect now, if any.
  std::optional<Failpoint> Hit(std::string_view name) {
    const std::lock_guard lock(mutex_);
    for (Failpoint& failpoint : failpoints_) {
      if (failpoint.name != name) continue;
      ++failpoint.hits;
      if (failpoint.hits >= failpoint.first && failpoint.hits <= failpoint.last) return failpoint;
    }
    return std::nullopt;
  }

 private:
  Failpoints() {
    const char* list = std::getenv("PHI_FAILPOINTS");
    auto failpoints = Read(list == nullptr ? "" : list);
    // Only a test sets them, and one that sets something else would test nothing.
    PHI_CHECK(failpoints.ok(), "PHI_FAILPOINTS: %s", list);
    failpoints_ = *std::move(failpoints);
  }

  std::mutex mutex_;
  std::vector<Failpoint> failpoints_;
};

}  // namespace

absl::Status SetFailpoints(std::string_view list) {
  PHI_ASSIGN_OR_RETURN(std::vector<Failpoint> failpoints, Read(list));
  Failpoints::Get().Set(std::move(failpoints));
  return absl::OkStatus();
}

absl::Status HitFailpoint(std::string_view name) {
  const std::optional<Failpoint> failpoint = Failpoints::Get().Hit(name);
  if (!failpoint) return absl::OkStatus();
  if (failpoint->action == Action::kSleep)
    std::this_thread::sleep_for(std::chrono::milliseconds(failpoint->sleep_ms));
  if (failpoint->action == Action::kKill) std::raise(SIGKILL);
  if (failpoint->action == Action::kError)
    return absl::InternalError(absl::StrCat("failpoint ", failpoint->name));
  return absl::OkStatus();
}

bool FailpointMakesNan(std::string_view name) {
  const std::optional<Failpoint> failpoint = Failpoints::Get().Hit(name);
  return failpoint && failpoint->action == Action::kNan;
}

}  // namespace phi
#endif
