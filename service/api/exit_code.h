#pragma once

#include <span>
#include <string_view>

// How every program of ours ends; each code but kOk comes with one clear line on stderr.
namespace phi::service {

enum class ExitCode : int {
  kOk = 0,
  kUsage = 64,
  kModelOrData = 65,
  kCannotBind = 69,
  kInternal = 70,
  kOutOfMemory = 71,
  kRendezvousFailed = 75,
  kRestartsSpent = 76,
};

struct ExitCodeRow {
  ExitCode code;
  std::string_view meaning;  // for docs/api.md
};

std::span<const ExitCodeRow> ExitCodes();

}  // namespace phi::service
