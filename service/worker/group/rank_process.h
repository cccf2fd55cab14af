#pragma once

#include <string>

#include "service/api/exit_code.h"

namespace phi::service {

// The whole life of one rank process: leader or follower, from its spec to its end. It never
// returns before the group ends; an error is said in one line.
ExitCode RunRankProcess(const std::string& spec_text);

}  // namespace phi::service
